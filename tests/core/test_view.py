"""One word for each service, and why; what is told of an event; when a command is done."""

from collections.abc import Callable

import pytest

from devstack.core import events as e
from devstack.core.model import Condition, Restart
from devstack.core.outcome import (
    dependency_failure,
    is_current,
    is_down,
    is_scaled,
    is_settled,
    scale_failure,
    update_failure,
)
from devstack.core.tell import Tone, tell
from devstack.core.view import (
    failures_for_good,
    is_updating,
    service_view,
    service_views,
)
from tests.support.history import History, cloud, database, job, needs, nginx, web, worker

ENDED = "ended with code 0 and is not started again; if that is all it does: `kind: job` or `port: none`"


def preparing(core: History) -> None:
    core.up(worker())


def prepare_failed(core: History) -> None:
    core.up(worker())
    core.not_prepared("worker", "cannot build worker: main.go:3: undefined: x")


def waiting(core: History) -> None:
    core.up(worker("db"), worker(depends_on=needs("db")))
    core.prepared("worker")


def starting(core: History) -> None:
    core.up(worker())
    core.prepared("worker")
    core.spawned("worker.1#1")
    core.unready("worker.1#1", "GET /healthz answers 503")


def overdue(core: History) -> None:
    core.up(worker())
    core.prepared("worker")
    core.spawned("worker.1#1")
    core.wait(121)


def mended_when_overdue(core: History) -> None:
    overdue(core)
    core.up(worker(), worker="source-2")


def its_successor_starts(core: History) -> None:
    mended_when_overdue(core)
    core.prepared("worker")
    core.spawned("worker.1#2")


def its_successor_is_overdue_too(core: History) -> None:
    its_successor_starts(core)
    core.wait(121)


def ready(core: History) -> None:
    core.up(worker(replicas=2))
    core.prepared("worker")
    core.start("worker.1#1")
    core.start("worker.2#1")


def degraded(core: History) -> None:
    ready(core)
    core.unready("worker.2#1", "no answer within 1 s")


def flapping(core: History) -> None:
    ready(core)
    for _ in range(2):
        core.unready("worker.2#1")
        core.ready("worker.2#1")


def flapped_long_ago(core: History) -> None:
    flapping(core)
    core.wait(61)


def backing_off(core: History) -> None:
    core.up(worker())
    core.prepared("worker")
    core.spawned("worker.1#1")
    core.exited("worker.1#1", 3)


def crash_loop(core: History) -> None:
    backing_off(core)
    for number in range(2, 6):
        core.wait(60)
        core.spawned(f"worker.1#{number}")
        core.exited(f"worker.1#{number}", None, signal=9)


def cannot_start(core: History) -> None:
    core.up(worker())
    core.prepared("worker")
    core.tell(e.ReplicaStartFailed("worker.1#1", "cannot start worker: no such program", True))


def stopping(core: History) -> None:
    ready(core)
    core.tell(e.StopRequested("worker"))


def stopped(core: History) -> None:
    stopping(core)
    core.exited("worker.1#1", None, signal=15)
    core.exited("worker.2#1", None, signal=15)


def scaled_to_nothing(core: History) -> None:
    core.up(worker())
    core.tell(e.ScaleRequested("worker", 0))


def done(core: History) -> None:
    core.up(worker())
    core.prepared("worker")
    core.start("worker.1#1")
    core.exited("worker.1#1", 0)


def ended_with_a_port(core: History) -> None:
    core.up(web("worker"))
    core.prepared("worker")
    core.start("worker.1#1")
    core.exited("worker.1#1", 0)


def one_of_two_failed(core: History) -> None:
    core.up(worker(replicas=2))
    core.prepared("worker")
    core.start("worker.1#1")
    core.tell(e.ReplicaStartFailed("worker.2#1", "cannot start worker: no such program", True))


def one_of_two_done(core: History) -> None:
    core.up(worker(replicas=2))
    core.prepared("worker")
    core.start("worker.1#1")
    core.start("worker.2#1")
    core.exited("worker.2#1", 0)


def one_of_two_ended_with_a_port(core: History) -> None:
    core.up(web("worker", replicas=2))
    core.prepared("worker")
    core.start("worker.1#1")
    core.start("worker.2#1")
    core.exited("worker.2#1", 0)


def waiting_for_one_that_waits_for_one_that_was_stopped(core: History) -> None:
    core.up(worker("db"), worker("api", depends_on=needs("db")), worker(depends_on=needs("api")))
    core.prepared("api")
    core.prepared("worker")
    core.tell(e.StopRequested("db"))


def waiting_for_one_that_is_done(core: History) -> None:
    core.up(worker("db"), worker(depends_on=needs("db")))
    core.prepared("db")
    core.prepared("worker")
    core.spawned("db.1#1")
    core.exited("db.1#1", 0)


def waiting_for_a_job_that_failed(core: History) -> None:
    core.up(job("db"), worker(depends_on=needs("db", how=Condition.COMPLETED)))
    core.prepared("db")
    core.prepared("worker")
    core.spawned("db.1#1")
    core.exited("db.1#1", 2)


def failed_for_good(core: History) -> None:
    core.up(worker(restart=Restart.NEVER))
    core.prepared("worker")
    core.start("worker.1#1")
    core.exited("worker.1#1", 3)


def job_done(core: History) -> None:
    core.up(job("worker"))
    core.prepared("worker")
    core.spawned("worker.1#1")
    core.exited("worker.1#1", 0)


def job_failed(core: History) -> None:
    core.up(job("worker"))
    core.prepared("worker")
    core.spawned("worker.1#1")
    core.exited("worker.1#1", 2)


def unknown(core: History) -> None:
    ready(core)
    core.tell(e.RuntimeLost("fake", "the keeper does not answer"))


def closing(core: History) -> None:
    ready(core)
    core.tell(e.DownRequested())


def workload_refused(core: History) -> None:
    core.up(cloud("worker"))
    core.prepared("worker")
    core.tell(e.WorkloadFailed("worker", "no such image", permanent=True))


@pytest.mark.parametrize(
    ("history", "word", "reason"),
    [
        (preparing, "preparing", "preparing"),
        (prepare_failed, "failed", "cannot build worker: main.go:3: undefined: x"),
        (waiting, "waiting", "waiting for db (ready)"),
        (starting, "starting", "GET /healthz answers 503"),
        (overdue, "starting", "not ready within 120 s"),
        (ready, "ready", ""),
        (degraded, "degraded", "no answer within 1 s"),
        (flapping, "flapping", ""),
        (flapped_long_ago, "ready", ""),
        (backing_off, "backing-off", "backing off: exited with code 3"),
        (crash_loop, "crash-loop", "backing off: killed by SIGKILL"),
        (cannot_start, "failed", "cannot start worker: no such program"),
        (stopping, "stopping", ""),
        (stopped, "stopped", "stopped by hand"),
        (scaled_to_nothing, "stopped", ""),
        (done, "done", ""),
        (one_of_two_done, "ready", ""),
        (ended_with_a_port, "failed", "ended with code 0 and is not started again"),
        (one_of_two_failed, "degraded", "cannot start worker: no such program"),
        (one_of_two_ended_with_a_port, "degraded", "ended with code 0 and is not started again"),
        (failed_for_good, "failed", "worker exited with code 3"),
        (job_done, "done", ""),
        (job_failed, "failed", "worker exited with code 2"),
        (unknown, "unknown", "the keeper does not answer"),
        (closing, "stopping", ""),
        (workload_refused, "failed", "no such image"),
    ],
)
def test_a_service_has_one_word_and_a_reason(
    history: Callable[[History], None], word: str, reason: str
) -> None:
    core = History()
    history(core)

    view = service_view(core.state, core.plan, "worker", core.now)
    assert (view.word, view.reason) == (word, reason)


@pytest.mark.parametrize(
    ("history", "reasons"),
    [
        (prepare_failed, ["cannot build worker: main.go:3: undefined: x"]),
        (crash_loop, ["backing off: killed by SIGKILL"]),
        (cannot_start, ["cannot start worker: no such program"]),
        (overdue, ["not ready within 120 s"]),
        (mended_when_overdue, []),
        (its_successor_starts, []),
        (its_successor_is_overdue_too, ["not ready within 120 s"]),
        (job_failed, ["worker exited with code 2"]),
        (ended_with_a_port, [ENDED]),
        (one_of_two_ended_with_a_port, [ENDED]),
        (one_of_two_failed, ["cannot start worker: no such program"]),
        (one_of_two_done, []),
        (done, []),
        (waiting, []),
        (
            waiting_for_one_that_waits_for_one_that_was_stopped,
            ["waiting for db (ready), which is stopped"] * 2,
        ),
        (waiting_for_one_that_is_done, ["waiting for db (ready), which is done"]),
        (
            waiting_for_a_job_that_failed,
            ["db exited with code 2", "waiting for db (completed), which failed"],
        ),
        (backing_off, []),
        (starting, []),
        (ready, []),
        (job_done, []),
        (stopped, []),
    ],
)
def test_b05_what_waiting_will_not_mend_is_told(
    history: Callable[[History], None], reasons: list[str]
) -> None:
    core = History()
    history(core)

    found = failures_for_good(core.state, core.plan, core.now)
    assert [reason for _, reason in found] == reasons


@pytest.mark.parametrize(
    ("history", "settled"),
    [
        (ready, True),
        (done, True),
        (one_of_two_done, True),
        (ended_with_a_port, False),
        (one_of_two_ended_with_a_port, False),
        (one_of_two_failed, False),
        (stopped, True),
        (job_done, True),
        (starting, False),
        (waiting, False),
        (degraded, False),
        (backing_off, False),
        (preparing, False),
    ],
)
def test_the_stack_is_settled_when_every_service_is_as_it_is_wanted(
    history: Callable[[History], None], settled: bool
) -> None:
    core = History()
    history(core)

    assert is_settled(core.state, core.now) is settled


def test_services_are_shown_in_the_order_of_the_file_with_the_gateway_last() -> None:
    core = History()
    core.up(nginx(), web("b"), database("a"))

    assert [v.name for v in service_views(core.state, core.plan, core.now)] == ["b", "a", "gateway"]


def test_an_override_is_shown_as_one() -> None:
    core = History()
    ready(core)
    core.tell(e.ScaleRequested("worker", 3))

    view = service_view(core.state, core.plan, "worker", core.now)
    assert (view.desired, view.ready, view.overridden) == (3, 2, True)


def restarted_and_scaled_by_hand(core: History) -> None:
    ready(core)
    core.tell(e.RestartRequested("worker"))
    core.prepared("worker")
    core.start("worker.1#2")
    core.exited("worker.1#1", None, signal=15)
    core.tell(e.ScaleRequested("worker", 1))
    core.exited("worker.2#1", 1)


def crashed_then_restarted_by_hand(core: History) -> None:
    backing_off(core)
    core.tell(e.RestartRequested("worker"))
    core.prepared("worker")
    core.start("worker.1#2")


def not_alive(core: History) -> None:
    ready(core)
    core.tell(e.LivenessFailed("worker.1#1", "no answer"))
    core.exited("worker.1#1", None, signal=15)


@pytest.mark.parametrize(
    ("history", "count"),
    [
        (ready, 0),
        (backing_off, 1),
        (crash_loop, 5),
        (not_alive, 1),
        (crashed_then_restarted_by_hand, 1),
        (restarted_and_scaled_by_hand, 0),
        (cannot_start, 0),
        (done, 0),
        (job_failed, 0),
    ],
)
def test_restarts_are_those_that_nobody_asked_for_and_outlive_the_replica(
    history: Callable[[History], None], count: int
) -> None:
    core = History()
    history(core)

    assert service_view(core.state, core.plan, "worker", core.now).restarts == count


def test_restarts_of_a_slot_that_is_not_wanted_any_more_are_not_counted() -> None:
    core = History()
    ready(core)
    core.exited("worker.2#1", 1)
    core.wait(1)
    assert service_view(core.state, core.plan, "worker", core.now).restarts == 1

    core.tell(e.ScaleRequested("worker", 1))

    assert service_view(core.state, core.plan, "worker", core.now).restarts == 0


def test_while_the_newest_source_is_not_running_a_warning_says_so() -> None:
    core = History()
    ready(core)
    core.tell(e.SourceChanged("worker", "source-2"))
    core.not_prepared("worker", "cannot prepare worker: no such package")

    view = service_view(core.state, core.plan, "worker", core.now)
    assert (view.word, view.warnings) == (
        "ready",
        ("newest source is not running: cannot prepare worker: no such package",),
    )
    assert update_failure(core.state, "worker", core.now) == (
        "cannot prepare worker: no such package"
    )


def test_what_never_ran_has_its_reason_and_no_warning_that_says_it_again() -> None:
    core = History()
    prepare_failed(core)

    view = service_view(core.state, core.plan, "worker", core.now)
    assert (view.reason, view.warnings) == ("cannot build worker: main.go:3: undefined: x", ())


def test_a_restart_is_done_when_every_replica_is_new_ready_and_gets_its_requests() -> None:
    core = History()
    ready(core)
    core.tell(e.RestartRequested("worker"))
    assert not is_current(core.state, "worker")
    core.prepared("worker")
    core.start("worker.1#2")
    assert is_updating(core.state, "worker")
    core.exited("worker.1#1", 0)
    core.start("worker.2#2")

    assert is_current(core.state, "worker")
    assert not is_updating(core.state, "worker")


def test_a_restart_is_done_when_a_worker_did_its_work_and_failed_when_a_server_did() -> None:
    for service, failure in ((worker("api"), ""), (web("api"), ENDED)):
        core = History()
        core.up(service)
        core.prepared("api")
        core.start("api.1#1")
        core.tell(e.RestartRequested("api"))
        core.prepared("api")
        core.spawned("api.1#2")
        core.exited("api.1#2", 0)
        core.exited("api.1#1", 0)

        assert is_current(core.state, "api") is not bool(failure)
        assert update_failure(core.state, "api", core.now) == failure


def test_what_waits_for_another_in_vain_is_told_only_while_it_has_to_wait() -> None:
    core = History()
    core.up(worker("db"), worker(depends_on=needs("db")))
    core.prepared("db")
    core.prepared("worker")
    assert dependency_failure(core.state, "worker", core.now) == ""
    core.start("db.1#1")
    core.start("worker.1#1")
    core.tell(e.StopRequested("db"))
    core.exited("db.1#1", 0)
    assert dependency_failure(core.state, "worker", core.now) == ""

    core.tell(e.RestartRequested("worker"))
    core.prepared("worker")
    assert dependency_failure(core.state, "worker", core.now) == (
        "waiting for db (ready), which is stopped"
    )
    core.tell(e.StartRequested("db"))
    assert dependency_failure(core.state, "worker", core.now) == ""


def test_a_newest_source_that_crash_loops_is_a_failed_update_with_its_last_lines() -> None:
    core = History()
    ready(core)
    core.tell(e.SourceChanged("worker", "source-2"))
    core.prepared("worker")
    for number in range(2, 7):
        assert update_failure(core.state, "worker", core.now) == ""
        core.spawned(f"worker.1#{number}")
        core.tell(e.ReplicaExited(f"worker.1#{number}", e.Exit(1, tail=("boom",))))
        core.wait(60)

    assert update_failure(core.state, "worker", core.now).splitlines() == [
        "worker: newest source does not start: exited with code 1: boom",
        "worker exited with code 1",
        "boom",
    ]


def test_scale_is_done_when_the_new_routes_are_in_force() -> None:
    core = History()
    core.up_behind_nginx()
    assert not is_scaled(core.state, "web")

    core.routed()
    assert is_scaled(core.state, "web")


def test_slots_that_nginx_does_not_know_are_not_served_and_a_refused_load_says_why() -> None:
    core = History()
    core.up_behind_nginx()
    core.routed()
    assert core.state.gateway.loaded is not None
    count = dict(core.state.gateway.loaded.slots)["web"] + 1

    core.tell(e.ScaleRequested("web", count))
    loading = core.state.gateway.loading
    assert loading is not None
    for slot in range(2, count + 1):
        core.start(f"web.{slot}#1")
        if core.state.gateway.setting is not None:
            core.routed()
    assert (is_scaled(core.state, "web"), scale_failure(core.state, "web", core.now)) == (False, "")
    core.tell(e.GatewayLoadFailed(loading, "port 8080 is in use"))
    assert not is_scaled(core.state, "web")
    assert scale_failure(core.state, "web", core.now) == "port 8080 is in use"

    core.wait(60)
    core.loaded()
    core.routed()
    assert (is_scaled(core.state, "web"), scale_failure(core.state, "web", core.now)) == (True, "")


def test_stop_is_done_when_nothing_of_it_runs() -> None:
    core = History()
    preparing(core)
    core.tell(e.StopRequested("worker"))
    assert not is_down(core.state, "worker")
    core.tell(e.PrepareAbandoned("worker", core.state.wanted_revision("worker") or ""))
    assert is_down(core.state, "worker")

    core = History()
    stopping(core)
    assert not is_down(core.state, "worker")

    core.exited("worker.1#1", 0)
    core.exited("worker.2#1", 0)
    assert is_down(core.state, "worker")


@pytest.mark.parametrize(
    ("history", "event", "text", "tone"),
    [
        (ready, e.ReadinessChanged("worker.1#1", False, "no answer"), "worker.1#1 is not ready: no answer", Tone.BAD),
        (starting, e.ReadinessChanged("worker.1#1", True), "worker.1#1 is ready", Tone.GOOD),
        (ready, e.ReplicaExited("worker.1#1", e.Exit(3)), "worker.1#1 exited with code 3", Tone.BAD),
        (stopping, e.ReplicaExited("worker.1#1", e.Exit(0)), "worker.1#1 stopped", Tone.INFO),
        (ready, e.LivenessFailed("worker.1#1", "no answer"), "worker.1#1 is not alive: no answer", Tone.BAD),
        (ready, e.ScaleRequested("worker", 5), "scale to 5", Tone.INFO),
        (ready, e.ScaleRequested("worker", None), "scale to as the file says", Tone.INFO),
        (ready, e.DownRequested("Ctrl-C"), "stopping: Ctrl-C", Tone.INFO),
        (ready, e.RuntimeLost("fake", "gone"), "fake runtime: gone", Tone.BAD),
        (preparing, e.PrepareFailed("worker", "x", "cannot build"), "cannot build", Tone.BAD),
    ],
)  # fmt: skip
def test_an_event_is_told_in_one_line(
    history: Callable[[History], None], event: e.Event, text: str, tone: Tone
) -> None:
    core = History()
    history(core)
    before = core.state
    core.record(event)

    line = tell(before, event, core.state)
    assert line is not None
    assert (line.text, line.tone) == (text, tone)


@pytest.mark.parametrize(
    "event",
    [
        e.ReadinessChanged("gone.1#1", True),
        e.ReplicaExited("gone.1#1", e.Exit(0)),
        e.ReadinessChanged("worker.1#1", True),
        e.ReplicaDrained("worker.1#1"),
    ],
)
def test_what_changes_nothing_is_not_told(event: e.Event) -> None:
    core = History()
    ready(core)

    assert tell(core.state, event, core.state) is None


def test_every_warning_is_told_once_however_many_there_are() -> None:
    core = History()
    ready(core)
    told: list[str] = []
    for _ in range(2):
        for number in range(6):
            for event in (
                e.Noted(f"A{number} from env_file is overridden", "worker"),
                e.ReplicaWarned("worker.1#1", f"listens on 0.0.0.0:{number}"),
            ):
                before = core.state
                core.record(event)
                line = tell(before, event, core.state)
                told += [line.text] if line is not None else []

    assert len(told) == len(set(told)) == 12
    view = service_view(core.state, core.plan, "worker", core.now)
    assert view.warnings == tuple(told[-5:])
