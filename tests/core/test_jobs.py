"""Jobs run once for each revision and data folder."""

from devstack.core import events as e
from devstack.core.model import Condition
from tests.support.history import History, database, job, needs, worker


def migrated() -> History:
    core = History()
    core.up(
        database(),
        job(depends_on=needs("db")),
        worker("app", depends_on=needs("migrate", how=Condition.COMPLETED)),
    )
    core.prepared("migrate")
    core.prepared("app")
    core.prepared("db", data_id="data-1")
    core.start("db.1#1")
    core.spawned("migrate.1#1")
    return core


def test_dependents_of_a_job_start_when_it_ended_with_code_0() -> None:
    core = migrated()

    assert core.holds("app") == ["waiting for migrate (completed)"]
    assert core.exited("migrate.1#1") == ["start app.1#1"]
    assert core.wait(3600) == []


def test_a_job_that_has_completed_is_not_run_again_for_the_same_revision_and_data() -> None:
    core = migrated()
    core.exited("migrate.1#1")
    core.start("app.1#1")

    assert core.tell(e.RestartRequested("app"), e.StartRequested("migrate")) == ["prepare app"]


def test_a_job_runs_again_for_a_new_revision_and_the_old_dependents_stay() -> None:
    core = migrated()
    core.exited("migrate.1#1")
    core.start("app.1#1")

    assert core.tell(e.SourceChanged("migrate", "source-2")) == ["prepare migrate"]
    assert core.prepared("migrate") == ["start migrate.1#2"]
    assert core.running("app") == ["app.1#1"]


def test_b14_a_job_that_fails_after_a_success_blocks_new_dependents_and_keeps_old_ones() -> None:
    core = migrated()
    core.exited("migrate.1#1")
    core.start("app.1#1")
    core.tell(e.SourceChanged("migrate", "source-2"))
    core.prepared("migrate")
    core.spawned("migrate.1#2")
    core.exited("migrate.1#2", 1)

    assert core.tell(e.ScaleRequested("app", 2)) == []
    assert core.running("app") == ["app.1#1"]
    assert core.holds("app") == ["waiting for migrate (completed)"]
    assert core.holds("migrate") == ["migrate exited with code 1"]
    assert core.wait(3600) == []


def test_a_failed_job_is_tried_again_when_up_or_start_asks() -> None:
    core = migrated()
    core.exited("migrate.1#1", 1)

    assert core.tell(e.StartRequested("migrate")) == ["start migrate.1#2"]


def test_a_job_completes_for_the_revision_that_ran_not_for_the_one_saved_meanwhile() -> None:
    core = migrated()
    core.tell(e.SourceChanged("migrate", "source-2"))
    core.prepared("migrate")

    assert core.exited("migrate.1#1") == ["start migrate.1#2"]
    assert core.running("app") == []


def test_a_new_data_folder_runs_its_jobs_again() -> None:
    core = migrated()
    core.exited("migrate.1#1")
    core.tell(e.StopRequested("db"))
    core.exited("db.1#1")
    core.tell(e.DataReset("db"), e.StartRequested("db"))
    core.prepared("db", data_id="data-2")

    assert core.start("db.1#2") == ["start migrate.1#2"]


def test_a_job_that_failed_on_the_old_data_is_tried_on_the_new() -> None:
    core = migrated()
    core.exited("migrate.1#1", 1)
    core.tell(e.StopRequested("db"))
    core.exited("db.1#1")
    core.tell(e.DataReset("db"), e.StartRequested("db"))
    core.prepared("db", data_id="data-2")

    assert core.start("db.1#2") == ["start migrate.1#2"]


def test_a_job_done_in_an_earlier_run_is_recalled() -> None:
    core = migrated()
    core.exited("migrate.1#1")
    keys = tuple(core.state.of("migrate").completed)
    later = History()
    later.tell(e.JobRecalled("migrate", keys))
    later.up(database(), job(depends_on=needs("db")))
    later.prepared("migrate")
    later.prepared("db", data_id="data-1")

    assert later.start("db.1#1") == []
    assert later.state.is_completed("migrate")


def test_a_job_stopped_by_hand_neither_failed_nor_completed() -> None:
    core = migrated()

    assert core.tell(e.StopRequested("migrate")) == ["stop migrate.1#1: migrate was stopped"]
    core.exited("migrate.1#1", None, signal=15)
    assert not core.state.is_completed("migrate")
    assert core.tell(e.StartRequested("migrate")) == ["start migrate.1#2"]


def test_a_job_lost_with_its_keeper_is_run_again() -> None:
    core = migrated()

    lost = e.ReplicaExited("migrate.1#1", e.Exit(None, 9), is_loss=True)
    assert core.tell(lost) == ["start migrate.1#2"]
