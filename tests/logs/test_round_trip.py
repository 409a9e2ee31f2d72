"""What is written is what is read: bytes, lines, order, over any chunking, rotation and kill."""

import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.logs.cursor import MAX_LINE
from devstack.logs.format import (
    OUTPUT,
    RECORD_SIZE,
    STDERR,
    STDOUT,
    decode_name,
    encode_name,
    file_name,
    parse_file_name,
)
from devstack.logs.query import ALL, Gap, Line, Query
from devstack.logs.reader import LogStore
from devstack.logs.render import raw_bytes
from devstack.logs.writer import LogWriter

PIECES = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.sampled_from(
            [b"\n", b"a\n", b"\n\n", "é".encode()[:1], "é".encode()[1:], b"\r\n", b"\0"]
        ),
    ),
    max_size=40,
)
EVERYTHING = Query()
QUICK = settings(max_examples=60)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def writer(root: Path, producer: str = "orders.1#1", run: str = "r1", **sizes: int) -> LogWriter:
    return LogWriter(str(root / "orders" / run), producer, **sizes)


def lines(root: Path, query: Query = EVERYTHING) -> list[Line]:
    return [item for item in LogStore(root).read(query) if isinstance(item, Line)]


def texts(root: Path, query: Query = EVERYTHING) -> list[bytes]:
    return [line.text for line in lines(root, query)]


def raw(root: Path, query: Query = EVERYTHING) -> bytes:
    return b"".join(raw_bytes(item) for item in LogStore(root).read(query))


def expected_lines(whole: bytes) -> list[bytes]:
    parts = whole.split(b"\n")
    return parts if parts[-1] else parts[:-1]


def temporary_root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@QUICK
@given(PIECES, st.integers(1, 200), st.booleans())
def test_bytes_and_lines_come_back_however_they_were_cut(
    pieces: list[bytes], rotate_bytes: int, closed: bool
) -> None:
    for root in temporary_root():
        log = writer(root, rotate_bytes=rotate_bytes, quota_bytes=1 << 30)
        for piece in pieces:
            log.append(piece, OUTPUT)
        if closed:
            log.close()
        whole = b"".join(pieces)

        assert raw(root) == whole
        assert texts(root) == expected_lines(whole)
        segments = sorted(
            (parsed[2], name)
            for name in os.listdir(root / "orders" / "r1")
            if (parsed := parse_file_name(name)) and parsed[1] == "log"
        )
        assert (
            b"".join((root / "orders" / "r1" / name).read_bytes() for _, name in segments) == whole
        )
        assert [line.partial for line in lines(root)][-1:] in ([], [not whole.endswith(b"\n")])
        log.close()


@QUICK
@given(st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(min_size=1, max_size=9))))
def test_d12_each_stream_keeps_its_order_and_times_do_not_go_back(
    reads: list[tuple[int, bytes]],
) -> None:
    for root in temporary_root():
        log = writer(root, rotate_bytes=64, quota_bytes=1 << 30)
        for stream, data in reads:
            log.append(data, stream)
        log.close()
        found = lines(root)

        for number, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
            whole = b"".join(data for stream, data in reads if stream == number)
            assert [line.text for line in found if line.stream == name] == expected_lines(whole)
        ended = [line.mono_ns for line in found if not line.partial]
        assert ended == sorted(ended)


@QUICK
@given(PIECES, st.integers(1, 90), st.integers(1, 12))
def test_the_last_lines_are_the_same_as_those_of_everything(
    pieces: list[bytes], rotate_bytes: int, wanted: int
) -> None:
    for root in temporary_root():
        log = writer(root, rotate_bytes=rotate_bytes, quota_bytes=1 << 30)
        for piece in pieces:
            log.append(piece, OUTPUT)

        assert texts(root, Query(tail=wanted)) == texts(root)[-wanted:]
        assert texts(root, Query(tail=0)) == []
        log.close()


@QUICK
@given(PIECES, st.integers(0, 40), st.integers(1, 31))
def test_a_resumed_writer_repairs_what_a_kill_left(
    pieces: list[bytes], unindexed: int, torn: int
) -> None:
    for root in temporary_root():
        log = writer(root)
        for piece in pieces:
            log.append(piece, OUTPUT)
        folder = root / "orders" / "r1"
        log._release()  # as a kill does: no closing record
        with (folder / file_name("orders.1#1", "log", 0)).open("ab") as data:
            data.write(b"x" * unindexed)
        with (folder / file_name("orders.1#1", "idx", 0)).open("ab") as index:
            index.write(b"\0" * torn)
        before = raw(root)
        again = writer(root)
        again.append(b"after\n", OUTPUT)
        again.close()

        assert before == b"".join(pieces), "readers trust records alone"
        whole = b"".join(pieces) + b"x" * unindexed + b"after\n"
        assert raw(root) == whole
        assert texts(root) == expected_lines(whole)
        index_size = (folder / file_name("orders.1#1", "idx", 0)).stat().st_size
        assert index_size % RECORD_SIZE == 0


@pytest.mark.parametrize("junk", [b"\0" * RECORD_SIZE * 3, b"\xff" * RECORD_SIZE])
def test_a_zeroed_or_wild_index_tail_is_cut(root: Path, junk: bytes) -> None:
    log = writer(root)
    log.append(b"one\ntwo", OUTPUT)
    log._release()
    with (root / "orders" / "r1" / "orders.1#1.idx").open("ab") as index:
        index.write(junk)
    assert raw(root) == b"one\ntwo"
    again = writer(root)
    again.append(b" more\n", OUTPUT)

    assert texts(root) == [b"one", b"two more"]
    again.close()


def test_records_of_bytes_that_never_reached_the_disk_are_dropped(root: Path) -> None:
    log = writer(root)
    log.append(b"one\n", OUTPUT)
    log.append(b"two\n", OUTPUT)
    log._release()
    os.truncate(root / "orders" / "r1" / "orders.1#1.log", 5)
    again = writer(root)
    again.append(b"three\n", OUTPUT)
    again.close()

    assert raw(root) == b"one\ntthree\n"


def test_position_is_where_it_stopped(root: Path) -> None:
    log = writer(root)
    assert log.position() == (0, 0, 0)
    log.append(b"abc\n", OUTPUT, wall_ns=77, mono_ns=5)
    assert log.position() == (0, 4, 77)
    log._release()

    again = writer(root)
    assert again.position() == (0, 4, 77)
    again.close()


def test_d01_the_last_line_without_a_newline_is_kept_and_flagged(root: Path) -> None:
    log = writer(root)
    log.append(b"a\nPANIC no newline", OUTPUT)
    unclosed = lines(root)
    log.close()
    closed = lines(root)

    for found in (unclosed, closed):
        assert [(line.text, line.partial) for line in found] == [
            (b"a", False),
            (b"PANIC no newline", True),
        ]


def test_a_line_that_ended_with_its_producer_does_not_go_on_with_the_next(root: Path) -> None:
    first = writer(root, "build")
    first.append(b"step one stopped", OUTPUT)
    first.close()
    second = writer(root, "build")
    second.append(b"step two\n", OUTPUT)
    second.close()

    assert texts(root) == [b"step one stopped", b"step two"]
    assert raw(root) == b"step one stoppedstep two\n"


def test_a_file_that_is_being_written_is_not_written_twice(root: Path) -> None:
    first, second = writer(root, "build"), writer(root, "build")
    first.append(b"first ", OUTPUT)
    second.append(b"second\n", OUTPUT)
    first.append(b"line\n", OUTPUT)
    first.close()
    second.close()

    assert second.name == "build+2"
    assert sorted(texts(root)) == [b"first line", b"second"]


def test_d02_a_huge_line_comes_in_pieces_with_bounded_memory(root: Path) -> None:
    size = 100_000_000
    log = writer(root)
    block = b"x" * (256 << 10)
    left = size
    while left:
        left -= len(block[:left])
        log.append(block[: left + len(block)] if left else block[: size % len(block)], OUTPUT)
    log.append(b"\nneighbour\n", OUTPUT)
    written = log.position()
    tracemalloc.start()
    try:
        total = longest = 0
        last: Line | None = None
        for pieces, item in enumerate(LogStore(root).read(EVERYTHING)):
            assert isinstance(item, Line)
            if item.text == b"neighbour":
                break
            total += len(item.text)
            longest = max(longest, len(item.text))
            assert item.continued == (pieces > 0)
            last = item
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    log.close()

    assert written[0] >= 2, "the line spans rotations"
    assert total > 99_000_000
    assert longest == MAX_LINE
    assert last is not None
    assert not last.partial
    assert peak < 8 << 20
    assert texts(root, Query(tail=1)) == [b"neighbour"]


def test_d03_binary_and_split_characters(root: Path) -> None:
    blob = os.urandom(1 << 20)
    log = writer(root)
    for start in range(0, len(blob), 1000):
        log.append(blob[start : start + 1000], OUTPUT)
    log.append(b"\n\xc3", OUTPUT)
    log.append(b"\xa9\n", OUTPUT)
    log.close()

    assert raw(root) == blob + "\né\n".encode()
    assert texts(root)[-1].decode() == "é"


def test_pieces_do_not_split_characters(root: Path) -> None:
    log = writer(root)
    text = "x" + "é" * MAX_LINE
    log.append(text.encode(), OUTPUT)
    log.close()
    found = texts(root)

    assert "".join(piece.decode() for piece in found) == text
    assert max(map(len, found)) <= MAX_LINE


def test_runs_and_replicas_are_merged_by_time(root: Path) -> None:
    old = LogWriter(str(root / "auth" / "r1"), "auth.1#1")
    old.append(b"old\n", OUTPUT, wall_ns=10, mono_ns=900)
    old.close()
    one, two = writer(root, "orders.1#1", "r2"), writer(root, "orders.2#1", "r2")
    for number in range(6):
        log = (one, two)[number % 2]
        log.append(b"%d\n" % number, OUTPUT, wall_ns=20 + number, mono_ns=100 + number)
    store = LogStore(root)

    assert texts(root) == [b"0", b"1", b"2", b"3", b"4", b"5"], "the newest run"
    assert texts(root, Query(run=ALL)) == [b"old", b"0", b"1", b"2", b"3", b"4", b"5"]
    assert texts(root, Query(run="previous")) == [b"old"]
    assert texts(root, Query(run="r1")) == [b"old"]
    assert texts(root, Query(tail=3)) == [b"3", b"4", b"5"]
    assert texts(root, Query(tail=7, run=ALL))[:2] == [b"old", b"0"]
    assert texts(root, Query(tail=7, run=ALL, services=("auth",))) == [b"old"]
    assert store.services() == ("auth", "orders")
    assert store.runs() == ("r1", "r2")
    assert store.producers("orders", "r2") == ("orders.1#1", "orders.2#1")
    one.close()
    two.close()


def test_hundreds_of_replicas_need_few_open_files(root: Path) -> None:
    for number in range(300):
        log = writer(root, f"orders.1#{number}")
        log.append(b"%d\n" % number, OUTPUT, wall_ns=number + 1, mono_ns=number + 1)
        log.close()
    before = most = len(os.listdir("/proc/self/fd"))
    found = []
    for item in LogStore(root).read(Query()):
        most = max(most, len(os.listdir("/proc/self/fd")))
        assert isinstance(item, Line)
        found.append(int(item.text))

    assert found == list(range(300))
    assert most - before < 10


def test_the_oldest_run_goes_first_and_never_what_is_being_written(root: Path) -> None:
    for run, when in (("r1", 1), ("r2", 2)):
        log = writer(root, run=run)
        log.append(b"o" * 1000, OUTPUT)
        log.close()
        for path in (root / "orders" / run).iterdir():
            os.utime(path, (when, when))
    idle = writer(root, "orders.2#1", "r3", rotate_bytes=1000, quota_bytes=8000)
    idle.append(b"idle\n", OUTPUT)
    live = writer(root, "orders.1#1", "r3", rotate_bytes=1000, quota_bytes=8000)
    runs_seen = []
    for _ in range(200):
        live.append(b"n" * 99 + b"\n", OUTPUT)
        runs = LogStore(root).runs("orders")
        if runs not in runs_seen:
            runs_seen.append(runs)
    size = sum(path.stat().st_size for path in (root / "orders").rglob("*.*"))

    assert runs_seen == [("r1", "r2", "r3"), ("r2", "r3"), ("r3",)]
    assert size <= 8000 + 1000
    assert b"idle" in texts(root)
    assert lines(root)[-1].text == b"n" * 99
    live.close()
    idle.close()


def test_a_crash_loop_does_not_fill_the_folder_with_small_files(root: Path) -> None:
    folder = root / "orders" / "r1"
    for number in range(1600):
        log = writer(root, f"orders.1#{number}", quota_bytes=1 << 20)
        log.append(b"x\n", OUTPUT)
        if number % 400 == 399:
            log._check_quota()
        log.close()

    assert len(list(folder.iterdir())) < 2 * (1024 + 400)


@given(st.text(min_size=1, max_size=40))
def test_any_producer_name_is_a_file_name_and_back(name: str) -> None:
    encoded = encode_name(name)

    assert "/" not in encoded
    assert not encoded.startswith(".")
    assert decode_name(encoded) == name
    for kind, segment in (("log", 0), ("idx", 0), ("log", 12)):
        assert parse_file_name(file_name(name, kind, segment)) == (name, kind, segment)


@pytest.mark.parametrize("name", ["x", "x.txt", "x.log.a", ".log", "x.log.0", ".gitignore"])
def test_other_files_are_not_segments(name: str) -> None:
    assert parse_file_name(name) is None


def test_what_was_lost_is_told_where_it_was(root: Path) -> None:
    log = writer(root)
    log.append(b"before\n", OUTPUT)
    log._lose(5)
    log.append(b"after\n", OUTPUT)
    log.close()
    found = list(LogStore(root).read(Query()))

    assert [type(item) for item in found] == [Line, Gap, Line]
    assert isinstance(found[1], Gap)
    assert (found[1].size, found[1].reason) == (5, "lost")
