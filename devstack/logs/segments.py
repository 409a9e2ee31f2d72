"""The files of one producer, opened for reading: records by number, bytes by offset, which segments exist.

Readers trust records alone: a record is written after its bytes, and half a record is not one yet.
"""
# pathlib is kept out: `devstack logs` starts without it
# ruff: noqa: PTH110, PTH118, PTH208

from __future__ import annotations

import os
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
        return os.fstat(self._index).st_size // RECORD_SIZE

    def record(self, number: int) -> Record:
        """The record of that number, which must exist."""
        return self.records(number, 1)[0]

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
        """Number of the first record not older than `wall_ns`."""
        return self._bisect(lambda record: record.wall_ns >= wall_ns)

    def first_at(self, offset: int) -> int:
        """Number of the first record that ends behind `offset`."""
        return self._bisect(lambda record: record.offset + record.size > offset)

    def _bisect(self, is_behind: Callable[[Record], bool]) -> int:
        low, high = 0, self.count()
        while low < high:
            middle = (low + high) // 2
            if is_behind(self.record(middle)):
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
