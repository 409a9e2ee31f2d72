"""Law 5, phases, and what a later controller is told: adoption and restoring."""

import pytest

from devstack.core import events as e
from devstack.core.model import Check, TcpProbe
from devstack.core.reduce import reduce
from devstack.core.state import Phase
from tests.support.history import History, stack, worker
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
            slots=((1, e.Slot(4, e.Attempts(revision, 3), last_exit=e.Exit(1))),),
            replicas=(("worker.1#4", e.Standing(ready=True)),),
        )
    )
    later.record(e.ReplicaAdopted("worker.1#4", "worker", 1, revision, 4242))

    assert later.up(worker()) == ["start worker.2#1"]
    assert later.state.ready_count("worker") == 1
    later.exited("worker.1#4", 1)
    assert later.wait(60) == ["start worker.1#5"]


def test_a_replica_held_back_by_its_startup_probe_is_adopted_as_far_as_it_was() -> None:
    core = History()
    core.record(
        e.StackApplied(stack(worker(startup=Check(TcpProbe())), worker("plain"))),
    )
    for known in (False, True):
        standing = e.Standing(startup_passed=known)
        core.record(e.Restored("worker", replicas=((f"worker.1#{known:d}", standing),)))
        core.record(e.ReplicaAdopted(f"worker.1#{known:d}", "worker", 1, "r", 4242))
    core.record(e.ReplicaAdopted("worker.1#7", "worker", 1, "r", 4242))
    core.record(e.ReplicaAdopted("plain.1#1", "plain", 1, "r", 4242))

    phases = {replica.id: replica.phase for replica in core.state.replicas.values()}
    assert phases == {
        "worker.1#0": Phase.STARTING,
        "worker.1#1": Phase.RUNNING,
        "worker.1#7": Phase.STARTING,  # nothing is known of it: it is asked again
        "plain.1#1": Phase.RUNNING,
    }


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
            slots=((1, e.Slot(4, e.Attempts(revision, 4), last_exit=e.Exit(1))),),
        )
    )
    later.spawned("worker.1#5")
    later.exited("worker.1#5", 1)

    assert later.state.of("worker").slot(1).newest.failures == 5


def test_a_cut_short_prepare_is_planned_again() -> None:
    core = History()
    core.up(worker())
    revision = core.state.of("worker").preparing
    assert revision is not None

    assert core.tell(e.PrepareAbandoned("worker", revision)) == ["prepare worker"]
