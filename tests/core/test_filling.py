"""Slots are prepared for, filled in the order of dependencies, and held with a reason."""

import pytest

from devstack.core import events as e
from devstack.core.model import Check, Condition, Restart, TcpProbe
from devstack.core.state import Override, Phase
from tests.support.history import History, database, job, needs, nginx, web, worker


def test_a_wanted_slot_is_prepared_for_and_then_filled() -> None:
    core = History()

    assert core.up(worker(replicas=2)) == ["prepare worker"]
    assert core.holds("worker") == ["preparing", "preparing"]
    assert core.prepared("worker") == ["start worker.1#1", "start worker.2#1"]
    assert core.holds("worker") == []


def test_the_next_replica_of_a_slot_has_the_next_number() -> None:
    core = History()
    core.up(worker(restart=Restart.ALWAYS))
    core.prepared("worker")
    core.start("worker.1#1")
    core.exited("worker.1#1", 1)

    assert core.wait(0.5) == ["start worker.1#2"]


def test_a_dependent_waits_until_its_dependency_is_ready() -> None:
    core = History()
    core.up(worker("db"), worker("app", depends_on=needs("db")))
    core.prepared("db")
    core.prepared("app")

    assert core.spawned("db.1#1") == []
    assert core.holds("app") == ["waiting for db (ready)"]
    assert core.ready("db.1#1") == ["start app.1#1"]


def test_a_dependent_that_waits_for_started_starts_with_the_process() -> None:
    core = History()
    core.up(worker("db"), worker("app", depends_on=needs("db", how=Condition.STARTED)))
    core.prepared("db")
    core.prepared("app")

    assert core.holds("app") == ["waiting for db (started)"]
    assert core.spawned("db.1#1") == ["start app.1#1"]


def test_started_means_that_the_startup_probe_passed() -> None:
    core = History()
    probed = worker("db", startup=Check(TcpProbe()))
    core.up(probed, worker("app", depends_on=needs("db", how=Condition.STARTED)))
    core.prepared("db")
    core.prepared("app")

    assert core.spawned("db.1#1", startup=True) == []
    assert core.tell(e.StartupPassed("db.1#1")) == ["start app.1#1"]


def test_b05_dependents_of_what_fails_wait_with_the_reason_and_are_not_started() -> None:
    core = History()
    core.up(worker("db"), worker("app", depends_on=needs("db")))
    core.prepared("app")

    assert core.not_prepared("db", "cannot prepare db: no such folder") == []
    assert core.holds("db") == ["cannot prepare db: no such folder"] * 2
    assert core.holds("app") == ["waiting for db (ready)"]
    assert core.wait(3600) == []


def test_b13_dependents_stay_when_their_dependency_restarts() -> None:
    core = History()
    core.up(database(), worker("app", depends_on=needs("db")))
    core.prepared("db")
    core.prepared("app")
    core.start("db.1#1")
    core.start("app.1#1")

    core.tell(e.RestartRequested("db"))
    assert core.prepared("db") == ["stop db.1#1: replaced by a newer revision"]
    assert core.exited("db.1#1") == ["start db.1#2"]
    assert core.running("app") == ["app.1#1"]


def test_services_with_a_port_wait_for_the_first_load_of_the_gateway_and_for_no_later_one() -> None:
    core = History()
    core.up(nginx(), web())
    core.prepared("gateway")
    assert core.prepared("web") == []
    assert core.holds("web") == ["waiting for gateway (first load)"]
    assert core.start("gateway.1#1") == ["start web.1#1", "load web*10"]

    core.exited("gateway.1#1", 1)
    core.exited("web.1#1", 1)
    assert core.wait(0.5) == ["start gateway.1#2", "start web.1#2"]


def test_only_one_revision_is_prepared_at_a_time_and_only_the_newest_becomes_desired() -> None:
    core = History()
    core.up(worker())
    first = core.state.of("worker").preparing
    assert core.tell(e.SourceChanged("worker", "source-2")) == [
        "cancel worker: a newer revision is wanted"
    ]
    for digest in ("source-3", "source-4"):
        assert core.tell(e.SourceChanged("worker", digest)) == []

    assert core.cancelled("worker") == ["prepare worker"]
    assert core.state.of("worker").desired is None
    assert core.state.of("worker").preparing == core.state.wanted_revision("worker") != first
    assert core.prepared("worker") == ["start worker.1#1"]


def test_e08_twenty_saves_make_one_build_and_one_more() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.start("worker.1#1")

    planned = core.tell(*(e.SourceChanged("worker", f"save-{n}") for n in range(20)))
    assert planned == ["prepare worker", "cancel worker: a newer revision is wanted"]
    assert core.cancelled("worker") == ["prepare worker"]
    assert core.prepared("worker") == ["start worker.1#2"]


@pytest.mark.parametrize(
    ("wish", "cause", "back"),
    [
        (e.StopRequested("worker"), "worker was stopped", e.StartRequested("worker")),
        (e.ScaleRequested("worker", 0), "scaled to 0", e.ScaleRequested("worker", 1)),
    ],
)
def test_what_is_not_wanted_any_more_is_cancelled_and_prepared_anew_when_it_is_again(
    wish: e.Event, cause: str, back: e.Event
) -> None:
    core = History()
    core.up(worker())

    assert core.tell(wish) == [f"cancel worker: {cause}"]
    assert core.tell(back) == []  # one at a time
    assert core.cancelled("worker") == ["prepare worker"]
    assert core.tell(wish) == [f"cancel worker: {cause}"]
    assert core.cancelled("worker") == []


def test_a_preparation_that_was_done_when_it_was_cancelled_counts_if_it_is_wanted_again() -> None:
    core = History()
    core.up(worker())
    core.tell(e.StopRequested("worker"), e.StartRequested("worker"))

    assert core.prepared("worker") == ["start worker.1#1"]
    core.tell(e.SourceChanged("worker", "source-2"))
    assert core.tell(e.StopRequested("worker")) == [
        "stop worker.1#1: worker was stopped",
        "cancel worker: worker was stopped",
    ]


def test_a_service_that_left_the_file_while_it_was_prepared_is_forgotten_when_that_has_ended() -> (
    None
):
    core = History()
    core.up(worker(), worker("other"))

    assert core.up(worker("other")) == ["cancel worker: worker was removed from the stack file"]
    assert "worker" in core.state.removed
    core.cancelled("worker")
    assert core.state.removed == {}


def test_a_closing_stack_cancels_what_it_prepares_and_sees_it_gone() -> None:
    core = History()
    core.up(worker())

    assert core.tell(e.DownRequested()) == ["cancel worker: down"]
    assert not core.state.is_empty
    core.cancelled("worker")
    assert core.state.is_empty


def test_a_job_that_turns_out_to_be_done_is_not_prepared_any_longer() -> None:
    core = History()
    core.up(database(), job(depends_on=needs("db")))
    core.prepared("migrate")
    core.prepared("db", data_id="data-1")
    core.start("db.1#1")
    core.spawned("migrate.1#1")
    core.exited("migrate.1#1")
    keys = tuple(core.state.of("migrate").completed)
    later = History()
    later.record(e.JobRecalled("migrate", keys))
    later.up(database(), job(depends_on=needs("db")))

    told = later.prepared("db", data_id="data-1")
    assert told == ["cancel migrate: migrate is done", "start db.1#1"]


def test_a_failed_prepare_keeps_the_old_replica_and_is_not_tried_again_by_itself() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.start("worker.1#1")
    core.tell(e.SourceChanged("worker", "source-2"))

    assert core.not_prepared("worker", "cannot build worker: main.go:3: undefined: x") == []
    assert core.wait(3600) == []
    assert core.running("worker") == ["worker.1#1"]
    assert core.holds("worker")[0] == "cannot build worker: main.go:3: undefined: x"
    assert core.tell(e.SourceChanged("worker", "source-3")) == ["prepare worker"]


def test_an_interpreted_service_never_starts_an_older_revision_from_the_newer_tree() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.start("worker.1#1")
    core.tell(e.SourceChanged("worker", "source-2"))
    core.not_prepared("worker", "cannot prepare worker: no such package")
    core.exited("worker.1#1", 1)

    assert core.wait(60) == []
    assert core.holds("worker")[-1] == "cannot prepare worker: no such package"
    core.up(worker(replicas=3), worker="source-2")
    assert core.running("worker") == []


def test_a_compiled_service_goes_on_from_its_artifact_while_the_newest_is_built() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker", compiled=True)
    core.start("worker.1#1")
    core.tell(e.SourceChanged("worker", "source-2"))
    core.exited("worker.1#1", 1)

    assert core.wait(0.5) == ["start worker.1#2"]


def test_a_start_that_found_a_newer_source_is_skipped_and_prepared_for() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")

    assert core.tell(
        e.SourceChanged("worker", "source-2"), e.ReplicaStartSkipped("worker.1#1")
    ) == ["prepare worker"]
    assert core.holds("worker") == ["preparing"]
    assert core.prepared("worker") == ["start worker.1#2"]


def test_scaling_up_starts_the_missing_slots_and_scaling_down_ends_the_highest() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.start("worker.1#1")

    assert core.tell(e.ScaleRequested("worker", 3)) == ["start worker.2#1", "start worker.3#1"]
    assert core.tell(e.ScaleRequested("worker", 1)) == [
        "stop worker.2#1: scaled to 1",
        "stop worker.3#1: scaled to 1",
    ]


def test_f09_of_fifty_scale_commands_the_last_one_holds_and_numbers_are_stable() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.start("worker.1#1")
    for n in range(50):
        core.tell(e.ScaleRequested("worker", (n * 7) % 9))
        for replica in core.state.replicas_of("worker"):
            if replica.phase is Phase.STOPPING:
                core.exited(replica.id, None, signal=15)
    core.tell(e.ScaleRequested("worker", 2))

    current = [r for r in core.state.replicas_of("worker") if r.is_current]
    assert sorted(r.slot or 0 for r in current) == [1, 2]


def test_f09_scaled_to_nothing_all_replicas_end_and_nothing_is_prepared() -> None:
    core = History()
    core.up(worker(replicas=2))
    core.prepared("worker")
    core.spawned("worker.1#1")

    assert core.tell(e.ScaleRequested("worker", 0)) == [
        "stop worker.1#1: scaled to 0",
        "stop worker.2#1: scaled to 0",
    ]
    assert core.tell(e.SourceChanged("worker", "source-2")) == []
    core.exited("worker.1#1", signal=15, code=None)
    core.exited("worker.2#1", signal=15, code=None)
    assert core.tell(e.ScaleRequested("worker", None)) == ["prepare worker"]


def test_f09_scaled_while_down_it_stays_down_until_it_is_asked_for() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.tell(e.StopRequested("worker"), e.ReplicaStartFailed("worker.1#1", "gone", False))

    assert core.tell(e.ScaleRequested("worker", 0)) == []
    assert core.tell(e.ScaleRequested("worker", 2)) == ["start worker.1#2", "start worker.2#1"]


def test_overrides_survive_a_new_stack_file_and_are_merged_when_read() -> None:
    core = History()
    core.up(worker(replicas=1))
    core.prepared("worker")
    core.tell(e.ScaleRequested("worker", 3))
    core.up(worker(replicas=2))

    assert core.state.wanted_count("worker") == 3
    core.tell(e.ScaleRequested("worker", None))
    assert core.state.wanted_count("worker") == 2


def test_overrides_end_with_down() -> None:
    core = History()
    core.up(worker())
    core.tell(e.ScaleRequested("worker", 3), e.DownRequested())

    assert core.state.override("worker") == Override()


def test_b11_restart_of_a_service_parked_on_a_dependency_waits_again() -> None:
    core = History()
    core.up(worker("db"), worker("app", depends_on=needs("db")))
    core.prepared("app")

    assert core.tell(e.RestartRequested("app")) == ["prepare app"]
    assert core.prepared("app") == []
    assert core.holds("app") == ["waiting for db (ready)"]
    core.prepared("db")
    assert core.start("db.1#1") == ["start app.1#1"]


def test_b11_stop_and_start_always_work_and_never_make_two_copies() -> None:
    core = History()
    core.up(database())
    core.prepared("db")
    core.start("db.1#1")

    assert core.tell(e.StopRequested("db")) == ["stop db.1#1: db was stopped"]
    assert core.tell(e.StartRequested("db")) == []
    assert core.holds("db") == ["waits for db.1#1 to end"]
    assert core.exited("db.1#1") == ["start db.1#2"]


def test_b12_of_commands_while_it_starts_the_last_one_wins() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")

    assert core.tell(e.StopRequested("worker")) == ["stop worker.1#1: worker was stopped"]
    assert core.tell(e.StartRequested("worker")) == ["start worker.1#2"]
    assert core.tell(e.StopRequested("worker")) == ["stop worker.1#2: worker was stopped"]
    core.exited("worker.1#1", None, signal=15)
    core.exited("worker.1#2", None, signal=15)
    assert core.running("worker") == []


def test_b12_stopped_during_back_off_it_is_not_started_when_the_time_comes() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.spawned("worker.1#1")
    core.exited("worker.1#1", 1)
    core.tell(e.StopRequested("worker"))

    assert core.wait(60) == []
    assert core.tell(e.StartRequested("worker")) == ["start worker.1#2"]


@pytest.mark.parametrize("is_spawned", [True, False])
def test_a_runtime_that_does_not_answer_holds_its_slots_and_starts_nothing(
    is_spawned: bool,
) -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    if is_spawned:
        core.spawned("worker.1#1")
    core.tell(e.RuntimeLost("fake", "the keeper was killed"))
    lost = e.ReplicaExited("worker.1#1", e.Exit(None, 9), is_loss=True)

    assert core.tell(lost) == []
    assert core.holds("worker") == ["fake runtime does not answer: the keeper was killed"]
    assert core.tell(e.RuntimeFound("fake")) == ["start worker.1#2"]


def test_what_was_lost_with_its_keeper_is_no_failure() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.start("worker.1#1")

    lost = e.ReplicaExited("worker.1#1", e.Exit(None, 9), is_loss=True)
    assert core.tell(lost) == ["start worker.1#2"]
    assert core.state.of("worker").slot(1).newest.failures == 0


def test_a_service_that_left_the_file_ends_and_its_numbers_are_never_used_again() -> None:
    core = History()
    core.up(worker(), worker("other"))
    core.prepared("worker")
    core.start("worker.1#1")

    assert core.up(worker("other")) == ["stop worker.1#1: worker was removed from the stack file"]
    core.exited("worker.1#1")
    assert core.state.removed == {}
    core.up(worker(), worker("other"))
    assert core.prepared("worker") == ["start worker.1#2"]
