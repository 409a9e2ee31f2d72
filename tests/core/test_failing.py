"""Failures: back-off, crash-loop, restart policies, liveness, and what is tried no more."""

import pytest

from devstack.core import events as e
from devstack.core.model import Restart
from devstack.core.view import Word, service_word
from tests.support.history import History, worker


def crash(core: History, replica: str, *, jitter: float = 0.0) -> None:
    core.spawned(replica)
    core.exited(replica, 1, jitter=jitter)


def serving(**changes: object) -> History:
    core = History()
    core.up(worker(**changes))
    core.prepared("worker")
    return core


@pytest.mark.parametrize(
    ("jitter", "gaps"),
    [
        (0.0, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]),
        (1.0, [0.625, 1.25, 2.5, 5.0, 10.0, 20.0, 37.5, 37.5]),
        (-1.0, [0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5]),
    ],
)
def test_b01_the_wait_doubles_up_to_thirty_seconds_and_a_quarter(
    jitter: float, gaps: list[float]
) -> None:
    core = serving()

    for number, gap in enumerate(gaps, start=1):
        crash(core, f"worker.1#{number}", jitter=jitter)
        assert core.plan.wake_at == pytest.approx(core.now + gap)
        assert core.wait(gap - 0.01) == []
        assert core.wait(0.01) == [f"start worker.1#{number + 1}"]


def test_b01_after_five_failures_in_a_row_it_is_a_crash_loop_that_is_still_tried() -> None:
    core = serving()
    for number in range(1, 5):
        crash(core, f"worker.1#{number}")
        assert service_word(core.state, "worker", core.now) is Word.BACKING_OFF
        core.wait(60)

    crash(core, "worker.1#5")
    assert service_word(core.state, "worker", core.now) is Word.CRASH_LOOP
    assert core.holds("worker") == ["backing off: exited with code 1"]
    assert core.wait(8) == ["start worker.1#6"]


def test_b01_a_restart_by_hand_begins_anew() -> None:
    core = serving()
    for number in range(1, 6):
        crash(core, f"worker.1#{number}")
        core.wait(60)
    crash(core, "worker.1#6")

    core.tell(e.RestartRequested("worker"))
    assert core.prepared("worker") == ["start worker.1#7"]
    crash(core, "worker.1#7")
    assert core.wait(0.5) == ["start worker.1#8"]


def test_b02_crashes_further_apart_than_the_longest_wait_are_still_in_a_row() -> None:
    core = serving()
    for number in range(1, 6):
        core.spawned(f"worker.1#{number}")
        core.wait(6)
        core.exited(f"worker.1#{number}", 1)
        core.wait(45)
    core.spawned("worker.1#6")

    assert core.state.of("worker").slot(1).newest.failures == 5


def test_ten_seconds_of_being_ready_make_good_for_earlier_failures() -> None:
    core = serving()
    crash(core, "worker.1#1")
    core.wait(0.5)
    core.start("worker.1#2")
    core.wait(9.9)
    core.exited("worker.1#2", 1)
    assert core.state.of("worker").slot(1).newest.failures == 2

    core.wait(1)
    core.start("worker.1#3")
    core.wait(10)
    core.exited("worker.1#3", 1)
    assert core.state.of("worker").slot(1).newest.failures == 1


def test_a_good_life_counts_even_if_it_was_not_ready_any_more_when_it_ended() -> None:
    core = serving()
    crash(core, "worker.1#1")
    core.wait(0.5)
    core.start("worker.1#2")
    core.wait(60)
    core.unready("worker.1#2")
    core.wait(1)
    core.exited("worker.1#2", 1)

    assert core.state.of("worker").slot(1).newest.failures == 1


@pytest.mark.parametrize(
    ("restart", "code", "signal", "again"),
    [
        (Restart.ALWAYS, 0, None, True),
        (Restart.ALWAYS, 1, None, True),
        (Restart.ALWAYS, None, 9, True),
        (Restart.ON_FAILURE, 0, None, False),
        (Restart.ON_FAILURE, 1, None, True),
        (Restart.ON_FAILURE, 137, None, True),
        (Restart.ON_FAILURE, None, 9, True),
        (Restart.ON_FAILURE, None, 15, True),
        (Restart.NEVER, 0, None, False),
        (Restart.NEVER, 1, None, False),
        (Restart.NEVER, None, 9, False),
    ],
)
def test_b03_restart_policies_are_exact(
    restart: Restart, code: int | None, signal: int | None, again: bool
) -> None:
    core = serving(restart=restart)
    core.start("worker.1#1")
    core.exited("worker.1#1", code, signal=signal)

    assert core.wait(60) == (["start worker.1#2"] if again else [])


@pytest.mark.parametrize(
    ("restart", "code", "word", "reason"),
    [
        (Restart.ON_FAILURE, 0, Word.DONE, "ended with code 0 and is not started again"),
        (Restart.NEVER, 0, Word.DONE, "ended with code 0 and is not started again"),
        (Restart.NEVER, 3, Word.FAILED, "worker exited with code 3"),
    ],
)
def test_b03_what_is_not_restarted_says_why(
    restart: Restart, code: int, word: Word, reason: str
) -> None:
    core = serving(restart=restart)
    core.start("worker.1#1")
    core.exited("worker.1#1", code)

    assert service_word(core.state, "worker", core.now) is word
    assert core.holds("worker") == [reason]


def test_a_start_that_can_never_work_is_held_until_somebody_asks_again() -> None:
    core = serving()
    failed = e.ReplicaStartFailed("worker.1#1", "cannot start worker: no such program", True)

    assert core.tell(failed) == []
    assert core.wait(3600) == []
    assert core.holds("worker") == ["cannot start worker: no such program"]
    assert core.tell(e.StartRequested("worker")) == ["start worker.1#2"]


def test_a_start_that_may_work_later_is_tried_after_the_back_off() -> None:
    core = serving()

    assert core.tell(e.ReplicaStartFailed("worker.1#1", "no memory", False)) == []
    assert core.wait(0.5) == ["start worker.1#2"]


def test_failed_liveness_stops_the_replica_and_counts_as_its_failure_whatever_its_code() -> None:
    core = serving()
    core.start("worker.1#1")

    assert core.tell(e.LivenessFailed("worker.1#1", "no answer")) == [
        "fail worker.1#1: liveness probe failed: no answer"
    ]
    core.exited("worker.1#1", 0)
    assert core.state.of("worker").slot(1).newest.failures == 1
    assert core.wait(0.5) == ["start worker.1#2"]


@pytest.mark.parametrize("code", [0, 1])
def test_a_replica_on_its_way_out_may_end_by_itself(code: int) -> None:
    core = serving(replicas=2)
    core.start("worker.1#1")
    core.start("worker.2#1")
    core.record(e.ReplicaDrainRequested("worker.2#1", "scaled to 1"))
    core.record(e.ReplicaExited("worker.2#1", e.Exit(code)))

    slot = core.state.of("worker").slot(2)
    assert (slot.newest.failures, slot.newest.finished) == (0, False)


def test_a_new_revision_starts_afresh() -> None:
    core = serving()
    for number in range(1, 4):
        crash(core, f"worker.1#{number}")
        core.wait(60)
    crash(core, "worker.1#4")
    core.tell(e.SourceChanged("worker", "source-2"))

    assert core.prepared("worker") == ["start worker.1#5"]
    assert core.state.of("worker").slot(1).newest.failures == 0


def test_b01_a_program_that_changes_its_own_source_and_crashes_waits_longer_each_time() -> None:
    """Nobody asked for a fresh start: that the source is another one was found by starting it."""
    core = serving(replicas=2)
    gaps = (0.5, 1.0, 2.0, 4.0, 8.0)
    crash(core, "worker.1#1")
    crash(core, "worker.2#1")
    for number, gap in enumerate(gaps, start=1):
        assert core.wait(gap - 0.01) == []
        first, second = f"worker.1#{2 * number}", f"worker.2#{2 * number}"
        assert core.wait(0.01) == [f"start {first}", f"start {second}"]
        changed = e.SourceChanged("worker", f"written-{number}", found_at_start=True)
        core.tell(changed, e.ReplicaStartSkipped(first), e.ReplicaStartSkipped(second))
        first, second = f"worker.1#{2 * number + 1}", f"worker.2#{2 * number + 1}"
        assert core.prepared("worker") == [f"start {first}", f"start {second}"]
        crash(core, first)
        crash(core, second)

    assert service_word(core.state, "worker", core.now) is Word.CRASH_LOOP
    core.tell(e.SourceChanged("worker", "edited"))
    core.prepared("worker")
    assert core.state.of("worker").slot(1).newest.failures == 0


def test_the_reason_has_the_place_and_the_last_words() -> None:
    core = serving()
    core.spawned("worker.1#1")
    tail = (
        "Traceback (most recent call last):",
        '  File "/shop/services/auth/app.py", line 12, in <module>',
        "    import flask_sqlalchemy",
        '  File "/usr/lib/python3.11/importlib/__init__.py", line 126, in import_module',
        "ModuleNotFoundError: No module named 'flask_sqlalchemy'",
    )
    core.tell(e.ReplicaExited("worker.1#1", e.Exit(1, tail=tail)))

    assert core.holds("worker") == [
        "backing off: app.py:12 ModuleNotFoundError: No module named 'flask_sqlalchemy'"
    ]
