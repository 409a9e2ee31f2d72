"""Somebody removes the logs of a stack that runs: what is written from then on is there."""

import shutil
from pathlib import Path

import pytest

from devstack.logs.follow import Follower
from devstack.logs.format import OUTPUT
from devstack.logs.query import Line, Query
from devstack.logs.reader import LogStore
from devstack.logs.writer import LogWriter
from tests.support.processes import eventually

SECOND = 10**9


def texts(root: Path) -> list[bytes]:
    return [item.text for item in LogStore(root).read(Query()) if isinstance(item, Line)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def log(root: Path) -> LogWriter:
    return LogWriter(str(root / "orders" / "r1"), "orders.1#1", rotate_bytes=100)


def say(log: LogWriter, text: bytes, second: float) -> None:
    at = int(second * SECOND)
    log.append(text, OUTPUT, wall_ns=at, mono_ns=at)


def test_removed_logs_are_begun_anew_with_all_that_was_said_since_the_last_look(
    log: LogWriter, root: Path
) -> None:
    say(log, b"old\n", 10)
    say(log, b"also old\n", 12)
    shutil.rmtree(root)
    say(log, b"within the second\n", 12.5)
    say(log, b"later\n", 14)
    say(log, b"much later\n", 20)
    log.close()

    assert texts(root) == [b"within the second", b"later", b"much later"]
    assert (log.problem, log.dropped) == (None, 0)


def test_a_rotation_finds_that_the_logs_were_removed(log: LogWriter, root: Path) -> None:
    say(log, b"a" * 98 + b"\n", 10)
    shutil.rmtree(root)
    say(log, b"b" * 97 + b"\n", 10.5)
    assert log.problem is None
    say(log, b"c\n", 10.6)
    log.close()

    assert texts(root) == [b"b" * 97, b"c"]


def test_a_rotation_makes_a_folder_that_was_moved_away(log: LogWriter, root: Path) -> None:
    say(log, b"a" * 98 + b"\n", 10)
    root.rename(root.with_name("kept"))
    say(log, b"b\n", 10.1)
    say(log, b"c\n", 10.2)
    log.close()

    assert texts(root.with_name("kept")) == [b"a" * 98]
    assert texts(root) == [b"b", b"c"]


def test_last_words_are_kept_when_the_logs_were_removed_just_before(
    log: LogWriter, root: Path
) -> None:
    say(log, b"old\n", 10)
    say(log, b"older\n", 12)
    shutil.rmtree(root)
    say(log, b"PANIC no newline", 12.1)
    log.close()

    assert texts(root) == [b"PANIC no newline"]


@pytest.mark.parametrize("rotations", [0, 3])
def test_who_follows_goes_on_in_the_new_files(log: LogWriter, root: Path, rotations: int) -> None:
    follower = Follower(LogStore(root), Query())
    seen: list[bytes] = []

    def look() -> list[bytes]:
        seen.extend(item.text for item in follower.poll() if isinstance(item, Line))
        return seen

    for number in range(rotations):
        say(log, b"%099d\n" % number, 8)
    say(log, b"old\n", 10)
    eventually(lambda: b"old" in look())
    shutil.rmtree(root)
    say(log, b"new\n", 12)
    eventually(lambda: b"new" in look())
    say(log, b"newer\n", 12)
    eventually(lambda: b"newer" in look())
    follower.close()
    log.close()


def test_more_than_is_held_back_is_told_as_lost(root: Path) -> None:
    log = LogWriter(str(root / "late" / "r1"), "late.1#1")
    say(log, b"old\n", 10)
    shutil.rmtree(root)
    for _ in range(10):
        say(log, b"x" * 99_999 + b"\n", 10.1)
    say(log, b"last\n", 12)
    log.close()

    assert texts(root)[-1] == b"last"
    assert log.dropped > 0
    assert log.dropped + sum(len(text) + 1 for text in texts(root)) == 1_000_005


@pytest.mark.parametrize("place", ["shop", ".devstack/worktrees/shop"])
def test_a_checkout_that_was_removed_does_not_come_back(tmp_path: Path, place: str) -> None:
    checkout = tmp_path / place
    checkout.mkdir(parents=True)
    folder = checkout / ".devstack" / "logs" / "orders" / "r1"
    log = LogWriter(str(folder), "orders.1#1", rotate_bytes=100)
    say(log, b"old\n", 10)
    shutil.rmtree(checkout)

    for number in range(40):  # more than a segment, so that the loss is noticed
        say(log, b"said to nobody\n", 20 + 5 * number)

    assert log.problem is not None
    assert not checkout.exists()
    shutil.rmtree(checkout, ignore_errors=True)
    (checkout / ".devstack").mkdir(parents=True)
    log.retry()
    say(log, b"new\n", 400)
    log.close()
    assert texts(checkout / ".devstack" / "logs")[-1] == b"new"
