"""What is written later arrives: through rotations, new replicas and runs; slow readers get a gap."""

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.logs.cursor import Item
from devstack.logs.follow import Follower, follow, follow_async
from devstack.logs.format import OUTPUT
from devstack.logs.query import ALL, Gap, Line, Query
from devstack.logs.reader import LogStore
from devstack.logs.render import raw_bytes
from devstack.logs.writer import LogWriter

DEADLINE_SECONDS = 20


def writer(root: Path, producer: str = "orders.1#1", run: str = "r1", **sizes: int) -> LogWriter:
    return LogWriter(str(root / "orders" / run), producer, **sizes)


@contextmanager
def following(root: Path, query: Query, **options: int) -> Iterator[Callable[[int], list[Item]]]:
    """Gives a function that waits until so many items have come in all, and returns them."""
    follower = Follower(LogStore(root), query, **options)
    items: list[Item] = list(follower.history())

    def wait_for(count: int) -> list[Item]:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(items) < count:
            assert time.monotonic() < deadline, f"only {len(items)} of {count} came: {items[-3:]}"
            items.extend(follower.poll())
        return items

    try:
        yield wait_for
    finally:
        follower.close()


def texts(items: list[Item]) -> list[bytes]:
    return [item.text for item in items if isinstance(item, Line)]


def test_lines_come_through_rotations_new_replicas_and_new_runs(tmp_path: Path) -> None:
    one = writer(tmp_path, rotate_bytes=20)
    one.append(b"old\n", OUTPUT)
    with following(tmp_path, Query()) as wait_for:
        assert texts(wait_for(1)) == [b"old"]
        for number in range(10):
            one.append(b"line %d of" % number, OUTPUT)
            one.append(b" many\n", OUTPUT)
        assert texts(wait_for(11))[1:] == [b"line %d of many" % number for number in range(10)]
        two = writer(tmp_path, "orders.2#1")
        two.append(b"second\n", OUTPUT)
        assert texts(wait_for(12))[-1] == b"second"
        three = writer(tmp_path, "orders.1#1", "r2")
        three.append(b"next run\n", OUTPUT)
        assert texts(wait_for(13))[-1] == b"next run"
        other = LogWriter(str(tmp_path / "auth" / "r2"), "auth.1#1")
        other.append(b"new service\n", OUTPUT)
        assert texts(wait_for(14))[-1] == b"new service"
        one.append(b"still here\n", OUTPUT)
        assert texts(wait_for(15))[-1] == b"still here"
    for log in (one, two, three, other):
        log.close()


def test_a_producer_that_ended_and_goes_on_is_followed(tmp_path: Path) -> None:
    with following(tmp_path, Query()) as wait_for:
        for number in range(1, 4):
            log = writer(tmp_path, "build")
            log.append(b"step", OUTPUT)
            log.close()
            assert texts(wait_for(number)) == [b"step"] * number


def test_only_the_run_and_service_that_were_asked_for(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.append(b"one\n", OUTPUT)
    with following(tmp_path, Query(services=("orders",), run="r1")) as wait_for:
        other = LogWriter(str(tmp_path / "auth" / "r1"), "auth.1#1")
        later = writer(tmp_path, run="r2")
        for log in (other, later, one):
            log.append(b"more\n", OUTPUT)
        replica = writer(tmp_path, "orders.2#1")
        replica.append(b"replica\n", OUTPUT)
        found = wait_for(3)
        assert {(item.service, item.run) for item in found} == {("orders", "r1")}
        assert sorted(texts(found)) == [b"more", b"one", b"replica"]
    for log in (one, other, later, replica):
        log.close()


@pytest.mark.parametrize("tail", [0, 1, 2])
def test_the_last_lines_come_first_and_nothing_between_is_lost(tmp_path: Path, tail: int) -> None:
    log = writer(tmp_path)
    log.append(b"a\nb\nc\n", OUTPUT)
    with following(tmp_path, Query(tail=tail, grep="[abcx]")) as wait_for:
        log.append(b"no\nx1\nx2\n", OUTPUT)
        assert texts(wait_for(tail + 2)) == [b"b", b"c", b"x1", b"x2"][2 - tail :]
    log.close()


def test_a_line_is_shown_after_a_while_without_its_newline_but_not_half_a_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devstack.logs.follow.PARTIAL_AFTER_NS", 50_000_000)
    log = writer(tmp_path)
    with following(tmp_path, Query()) as wait_for:
        log.append("caf\u00e9".encode()[:-1], OUTPUT)
        (first,) = wait_for(1)
        log.append("\u00e9!\n".encode()[1:], OUTPUT)
        second = wait_for(2)[1]

        assert isinstance(first, Line)
        assert isinstance(second, Line)
        assert (first.text, first.partial, first.continued) == (b"caf", True, False)
        assert (second.text.decode(), second.partial, second.continued) == ("é!", False, True)
    log.close()


def test_d01_the_last_partial_line_is_not_lost_when_following_ends(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append(b"a\n", OUTPUT)
    ends: list[bool] = []

    def until() -> bool:
        if not ends:
            log.append(b"b\nPANIC no newline", OUTPUT)
            ends.append(True)
            return False
        return True

    found = list(follow(LogStore(tmp_path), Query(), until))
    log.close()

    assert texts(found) == [b"a", b"b", b"PANIC no newline"]
    assert isinstance(found[-1], Line)
    assert found[-1].partial


@settings(max_examples=30)
@given(
    st.lists(st.one_of(st.just(None), st.binary(min_size=1, max_size=30)), max_size=40),
    st.integers(1, 60),
)
def test_polling_in_between_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes | None], rotate_bytes: int
) -> None:
    root = tmp_path_factory.mktemp("logs")
    log = writer(root, rotate_bytes=rotate_bytes, quota_bytes=1 << 30)
    follower = Follower(LogStore(root), Query())
    found: list[Item] = list(follower.history())
    for piece in pieces:
        if piece is None:
            found.extend(follower.poll())
        else:
            log.append(piece, OUTPUT)
    found.extend(follower.finish())
    follower.close()
    log.close()

    assert b"".join(map(raw_bytes, found)) == b"".join(piece for piece in pieces if piece)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=60), st.integers(0, 3))
def test_d05_a_gap_and_the_lines_around_it_are_all_there_is(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], newline_every: int
) -> None:
    root = tmp_path_factory.mktemp("logs")
    log = writer(root, rotate_bytes=30_000, quota_bytes=1 << 30)
    log.append(b"start\nbeg", OUTPUT)
    follower = Follower(LogStore(root), Query(), max_behind=4_000)
    found: list[Item] = list(follower.history())
    for number, size in enumerate(sizes):
        ends = newline_every and number % newline_every == 0
        log.append(b"%d" % (number % 10) * size + (b"\n" if ends else b""), OUTPUT)
    written = sum(path.stat().st_size for path in (root / "orders" / "r1").glob("*.log*"))
    found.extend(follower.poll())
    found.extend(follower.finish())
    follower.close()
    log.close()

    shown = sum(len(raw_bytes(item)) for item in found)
    gaps = [item for item in found if isinstance(item, Gap)]
    assert shown + sum(gap.size for gap in gaps) == written
    whole = sum(not item.partial for item in found if isinstance(item, Line))
    assert whole + sum(gap.lines or 0 for gap in gaps) == 1 + (
        sum(number % newline_every == 0 for number in range(len(sizes))) if newline_every else 0
    )


def test_d05_a_stalled_reader_costs_no_memory_and_gets_a_gap(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append(b"first\n", OUTPUT)
    follower = Follower(LogStore(tmp_path), Query())
    assert len(list(follower.history())) == 1
    burst = b"".join(b"%099d\n" % number for number in range(1000))
    for _ in range(400):
        log.append(burst, OUTPUT)
    tracemalloc.start()
    try:
        items = follower.poll()
        gap = next(items)
        rest = [next(items) for _ in range(500)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    follower.close()
    log.close()

    assert isinstance(gap, Gap)
    assert gap.reason == "skipped"
    assert 38_000_000 < gap.size < 40_000_000
    assert gap.lines == gap.size // 100
    assert isinstance(rest[0], Line)
    assert len(rest[0].text) == 99
    assert peak < 2 << 20


def test_history_is_never_skipped(tmp_path: Path) -> None:
    log = writer(tmp_path)
    for number in range(40):
        log.append(b"%0100000d\n" % number, OUTPUT)
    with following(tmp_path, Query(), max_behind=1000) as wait_for:
        assert len(texts(wait_for(40))) == 40
    log.close()


def test_an_event_loop_follows_too(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append(b"one\n", OUTPUT)

    async def read() -> list[bytes]:
        found: list[bytes] = []
        done = asyncio.Event()
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for item in LogStore(tmp_path).follow(Query(), done.is_set):
                assert isinstance(item, Line)
                found.append(item.text)
                if item.text == b"one":
                    log.append(b"two\nthree", OUTPUT)
                if item.text == b"two":
                    done.set()
        return found

    assert asyncio.run(read()) == [b"one", b"two", b"three"]
    log.close()


def test_a_cancelled_follower_closes_its_files(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append(b"one\n", OUTPUT)

    async def read() -> None:
        came = asyncio.Event()

        async def consume() -> None:
            async for _ in follow_async(LogStore(tmp_path), Query()):
                came.set()

        task = asyncio.create_task(consume())
        async with asyncio.timeout(DEADLINE_SECONDS):
            await came.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(read())
    log.close()


def test_a_reader_beside_a_writer_of_many_rotations_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a writer that stands still in the middle of a line is not shown half of it
    monkeypatch.setattr("devstack.logs.follow.PARTIAL_AFTER_NS", DEADLINE_SECONDS * 10**9)
    total = 20_000
    log = writer(tmp_path, rotate_bytes=50_000, quota_bytes=1 << 30)
    finished = threading.Event()

    def write() -> None:
        for number in range(total):
            log.append(b"%08d" % number, OUTPUT)
            log.append(b" end\n", OUTPUT)
        finished.set()

    thread = threading.Thread(target=write)
    thread.start()
    found = list(follow(LogStore(tmp_path), Query(run=ALL), finished.is_set, max_behind=None))
    thread.join()
    log.close()

    assert texts(found) == [b"%08d end" % number for number in range(total)]
