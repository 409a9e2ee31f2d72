"""Law 5, phases, and what a later controller is told: adoption and restoring."""

import pytest

from devstack.core import events as e
from devstack.core.reduce import reduce
from devstack.core.state import Phase
from tests.support.history import History, worker
from tests.support.world import ghosts


def ended() -> History:
    core = History()
    core.up(worker(replicas=2))
    core.prepared("worker")
    core.start("worker.1#1")
    core.exited("worker.1#1", 1)
    return core


@pytest.mark.parametrize("event", ghosts("worker.1#1", 1000.0), ids=lambda e: type(e).__name__)
def test_a_fact_about_a_replica_that_is_gone_changes_nothing(event: e.Event) -> None:
    core = ended()

    assert reduce(core.state, event) == core.state


@pytest.mark.parametrize(
    "event",
    [
        e.ReplicaSpawned("worker.1#1", 7),
        e.StartupPassed("worker.1#1"),
        e.ReadinessChanged("worker.1#1", True),
        e.LivenessFailed("worker.1#1", "no answer"),
        e.ReplicaDrainRequested("worker.1#1", "x"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_what_is_stopping_stays_so(event: e.Event) -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.tell(e.StopRequested("worker"))
    core.record(event)

    replica = core.replica("worker.1#1")
    assert (replica.phase, replica.ready, replica.draining) == (Phase.STOPPING, False, False)


def test_what_a_snapshot_knew_and_what_runs_is_taken_over_without_an_op() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.start("worker.1#1")
    revision = core.state.of("worker").desired
    assert revision is not None
    later = History()
    later.record(
        e.Restored(
            "worker",
            desired=revision,
            good=revision,
            artifact=e.Artifact(revision),
            override_replicas=2,
            slots=((1, 4, 3, e.Exit(1)),),
        )
    )
    later.record(e.ReplicaAdopted("worker.1#4", "worker", 1, revision, 4242, ready=True))

    assert later.up(worker()) == ["start worker.2#1"]
    assert later.state.ready_count("worker") == 1
    later.exited("worker.1#4", 1)
    assert later.wait(60) == ["start worker.1#5"]


def test_a_revision_that_ended_for_good_does_not_stand_in_for_a_newer_one() -> None:
    core = History()
    core.up(worker(replicas=2))
    core.prepared("worker", compiled=True)
    core.start("worker.1#1")
    core.start("worker.2#1")
    core.exited("worker.2#1", 0)
    core.tell(e.SourceChanged("worker", "source-2"))
    core.prepared("worker", compiled=True)
    core.spawned("worker.2#2")
    core.exited("worker.2#2", 1)

    assert "worker.2#3" not in core.state.replicas
    assert "ended with code 0 and is not started again" in core.holds("worker")


def test_a_crash_loop_goes_on_counting_under_a_new_controller() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    revision = core.state.of("worker").desired
    assert revision is not None
    later = History()
    later.up(worker())
    later.tell(
        e.Restored(
            "worker",
            desired=revision,
            artifact=e.Artifact(revision),
            slots=((1, 4, 4, e.Exit(1)),),
        )
    )
    later.spawned("worker.1#5")
    later.exited("worker.1#5", 1)

    assert later.state.of("worker").slot(1).failures == 5


def test_a_cut_short_prepare_is_planned_again() -> None:
    core = History()
    core.up(worker())
    revision = core.state.of("worker").preparing
    assert revision is not None

    assert core.tell(e.PrepareAbandoned("worker", revision)) == ["prepare worker"]
