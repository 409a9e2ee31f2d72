"""What a power loss or a clock that was set back leaves in the files hides no line."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.logs.format import OUTPUT, RECORD_SIZE, file_name
from devstack.logs.query import Line, Query
from devstack.logs.reader import LogStore
from devstack.logs.writer import LogWriter

SECOND = 10**9


def written(root: Path, walls: list[int], rotate_bytes: int = 1 << 20) -> list[Path]:
    """A log whose line `N` was written at the Nth of these times; its index files."""
    folder = root / "orders" / "r1"
    log = LogWriter(str(folder), "orders.1#1", rotate_bytes=rotate_bytes)
    for number, wall in enumerate(walls):
        log.append(b"%d\n" % number, OUTPUT, wall_ns=wall * SECOND, mono_ns=number * SECOND)
    log._release()
    indexes: list[Path] = []
    while (index := folder / file_name("orders.1#1", "idx", len(indexes))).exists():
        indexes.append(index)
    return indexes


def numbers(root: Path, query: Query) -> list[int]:
    return [int(item.text) for item in LogStore(root).read(query) if isinstance(item, Line)]


@pytest.mark.parametrize("zeroed", [1, 7, 2000])
@pytest.mark.parametrize("count", [0, 1, 60])
def test_an_index_that_ends_in_zeros_is_read_up_to_them(
    tmp_path: Path, count: int, zeroed: int
) -> None:
    (index,) = written(tmp_path, list(range(1, count + 1)))
    with index.open("ab") as file:
        file.write(bytes(zeroed * RECORD_SIZE + 5))
    whole = list(range(count))

    assert numbers(tmp_path, Query()) == whole
    assert numbers(tmp_path, Query(tail=5)) == whole[-5:]
    assert numbers(tmp_path, Query(since_ns=40 * SECOND)) == whole[39:]
    assert numbers(tmp_path, Query(since_ns=40 * SECOND, tail=100)) == whole[39:]


@pytest.mark.parametrize("hole", [0, 30, 58])
def test_a_hole_in_an_index_ends_nothing_but_the_lines_behind_it(tmp_path: Path, hole: int) -> None:
    (index,) = written(tmp_path, list(range(1, 61)))
    with index.open("r+b") as file:
        file.seek(hole * RECORD_SIZE)
        file.write(bytes(RECORD_SIZE))

    assert numbers(tmp_path, Query()) == list(range(hole))
    numbers(tmp_path, Query(tail=5))
    numbers(tmp_path, Query(since_ns=20 * SECOND))


@pytest.mark.parametrize("rotate_bytes", [1, 9, 1 << 20])
def test_since_finds_what_was_written_before_and_after_the_clock_was_set_back(
    tmp_path: Path, rotate_bytes: int
) -> None:
    written(tmp_path, [100, 101, 102, 50, 51, 52, 53, 54, 55, 56], rotate_bytes)

    assert numbers(tmp_path, Query(since_ns=55 * SECOND)) == [0, 1, 2, 8, 9]
    assert numbers(tmp_path, Query(since_ns=101 * SECOND)) == [1, 2]
    assert numbers(tmp_path, Query(since_ns=101 * SECOND, tail=9)) == [1, 2]
    assert numbers(tmp_path, Query(since_ns=103 * SECOND)) == []


@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 30), max_size=40),
    st.integers(0, 31),
    st.sampled_from([1, 20, 1 << 20]),
    st.none() | st.integers(0, 40),
)
def test_since_is_the_same_as_looking_at_every_line_whatever_the_clock_did(
    tmp_path_factory: pytest.TempPathFactory,
    walls: list[int],
    second: int,
    rotate_bytes: int,
    tail: int | None,
) -> None:
    root = tmp_path_factory.mktemp("logs")
    written(root, walls, rotate_bytes)
    wanted = [number for number, wall in enumerate(walls) if wall >= second]
    if tail is not None:
        wanted = wanted[len(wanted) - min(tail, len(wanted)) :]

    assert numbers(root, Query(since_ns=second * SECOND, tail=tail)) == wanted
