"""The files of one producer, opened for reading: records by number, bytes by offset, which segments exist.

Readers trust records alone: a record is written after its bytes, and half a record is not one yet. Nor
is one of zeros, which is what a power loss makes of the last ones.
"""
# pathlib is kept out: `devstack logs` starts without it
# ruff: noqa: PTH110, PTH118, PTH208

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from devstack.logs.format import (
    DATA,
    INDEX,
    MAGIC,
    NO_BYTES,
    RECORD,
    RECORD_SIZE,
    file_name,
    parse_file_name,
)


class Record(NamedTuple):
    """One read of the writer, or (flags in NO_BYTES) a mark between reads."""

    offset: int
    wall_ns: int
    mono_ns: int
    length: int
    stream: int
    flags: int
    magic: int

    @property
    def size(self) -> int:
        """Bytes in the data file."""
        return 0 if self.flags & NO_BYTES else self.length


class Segment:
    """An open segment. Raises FileNotFoundError where the quota has removed it."""

    def __init__(self, folder: str, producer: str, number: int) -> None:
        self.number = number
        self._index = _open(os.path.join(folder, file_name(producer, INDEX, number)))
        try:
            self._data = _open(os.path.join(folder, file_name(producer, DATA, number)))
        except OSError:
            os.close(self._index)
            raise

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._index)
        os.close(self._data)

    def is_removed(self) -> bool:
        """Whether nobody will find what is written here."""
        return os.fstat(self._index).st_nlink == 0

    def count(self) -> int:
        """How many whole records there are now."""
        whole = os.fstat(self._index).st_size // RECORD_SIZE
        if not whole or self.record(whole - 1) is not None:
            return whole
        return _bisect(whole, lambda number: self.record(number) is None)

    def record(self, number: int) -> Record | None:
        """The record of that number, or None for a damaged one."""
        return next(iter(self.records(number, 1)), None)

    def records(self, first: int, most: int) -> list[Record]:
        """Up to `most` records from `first` on; fewer at the end, or before a damaged one."""
        raw = os.pread(self._index, most * RECORD_SIZE, first * RECORD_SIZE)
        whole = len(raw) // RECORD_SIZE * RECORD_SIZE
        records = [Record._make(fields) for fields in RECORD.iter_unpack(raw[:whole])]
        for position, record in enumerate(records):
            if record.magic != MAGIC:
                return records[:position]
        return records

    def data(self, offset: int, size: int) -> bytes:
        """Bytes from the data file; fewer where somebody cut it."""
        return os.pread(self._data, size, offset)

    def size(self) -> int:
        """Bytes in the data file."""
        return os.fstat(self._data).st_size

    def first_since(self, wall_ns: int) -> int:
        """Number of the first record not older than `wall_ns`.

        Looks at all of them: behind a clock that was set back the later ones are the older ones.
        """
        count = self.count()
        for first in range(0, count, _BATCH):
            size = min(_BATCH, count - first)
            raw = os.pread(self._index, size * RECORD_SIZE, first * RECORD_SIZE)
            walls = (_WALLS if size == _BATCH else _walls(size)).unpack(raw)
            if max(walls) >= wall_ns:
                return first + next(n for n, wall in enumerate(walls) if wall >= wall_ns)
        return count

    def first_at(self, offset: int) -> int:
        """Number of the first record that ends behind `offset`."""

        def is_behind(number: int) -> bool:
            record = self.record(number)
            return record is None or record.offset + record.size > offset

        return _bisect(self.count(), is_behind)


_BATCH = 4096


def _walls(count: int) -> struct.Struct:
    """The wall times alone of so many records: a sixth of the time that whole ones take."""
    return struct.Struct("<" + "8xQ16x" * count)


_WALLS = _walls(_BATCH)


def _bisect(count: int, is_behind: Callable[[int], bool]) -> int:
    """The first of so many numbers for which that is true, as it is for all later ones."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if is_behind(middle):
            high = middle
        else:
            low = middle + 1
    return low


def segment_numbers(folder: str, producer: str) -> list[int]:
    """Numbers of the segments that exist, oldest first."""
    count = 0
    while os.path.exists(os.path.join(folder, file_name(producer, INDEX, count))):
        count += 1
    if count:  # nothing was removed: no need to list a folder that may be large
        return list(range(count))
    return sorted(
        parsed[2]
        for parsed in map(parse_file_name, _entries(folder))
        if parsed is not None and parsed[0] == producer and parsed[1] == INDEX
    )


def producers(folder: str) -> list[str]:
    """Names of all producers of a run's folder."""
    return sorted(
        {
            parsed[0]
            for parsed in map(parse_file_name, _entries(folder))
            if parsed is not None and parsed[1] == INDEX
        }
    )


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
