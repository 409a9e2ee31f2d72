"""How output gets into the store: one writer per producer, appended to from the keeper's loop.

    append ──▶ data file ──▶ index record        the usual way: two writes
       │ an error of the system (disk full)
       ▼
    held back: a ring of the newest 256 KiB ──▶ next append or `retry` ──▶ one TRUNCATED record, the ring

Files that somebody removed under a running stack take bytes all the same, and nobody will ever read
them: about once a second the writer looks for that, and goes on in new files with what it wrote since.

No error of the system leaves this module: a service must never die of its log. `problem` and `dropped`
tell what goes on. Every `append` that returned while `problem` is None is in the files.

Runs inside the keeper (`python3 -I -S`): standard library only, and nothing that is slow to import.
"""
# pathlib is kept out of the keeper's imports
# ruff: noqa: PTH103, PTH106, PTH108, PTH116, PTH118, PTH120, PTH208

from __future__ import annotations

import fcntl
import os
import time

from devstack.logs.format import (
    CLOSED,
    CONTINUED,
    DATA,
    INDEX,
    MAGIC,
    MAX_LENGTH,
    NO_BYTES,
    OUTPUT,
    PARTIAL,
    RECORD,
    RECORD_SIZE,
    RECOVERED,
    ROTATED,
    TRUNCATED,
    file_name,
    parse_file_name,
)

RING_BYTES = 256 << 10
RING_CHUNKS = 1024
RETRY_NS = 50_000_000
NEWLINE = 0x0A
LOOK_NS = 1_000_000_000
LAST_RECORDS = 512
"""How many records a resuming writer looks back for the state of each stream."""
QUOTA_CHECK_NS = 10_000_000_000
"""How often opening a writer looks at the quota of its service."""

_quota_checked: dict[str, int] = {}


class LogWriter:
    """Appends what one producer writes. Where its file is being written already, it takes `name+2`."""

    def __init__(
        self, folder: str, name: str, *, rotate_bytes: int = 32 << 20, quota_bytes: int = 256 << 20
    ) -> None:
        self.folder = folder
        self.name = name
        self.dropped = 0
        """Bytes lost since the writer was opened."""
        self.problem: str | None = None
        """Why output is being held back now, in the system's words; None while all is well."""
        self._wanted_name = name
        self._rotate_bytes = rotate_bytes
        self._quota_bytes = quota_bytes
        self._data = -1
        self._index = -1
        self._segment = 0
        self._offset = 0
        self._index_size = 0
        self._last_wall = 0
        self._mid_line: set[int] = set()
        self._unchecked_bytes = 0
        self._looked_at = 0
        self._looked_size = 0  # of the index, when the files were there for certain
        self._held: list[tuple[int, int, int, bytearray]] = []
        self._held_bytes = 0
        self._lost = 0  # not yet told by a TRUNCATED record
        self._retry_at = 0
        self._closed = False
        try:
            self._open()
        except OSError as exc:
            self._fail(exc)

    def append(
        self,
        data: bytes | memoryview,
        stream: int = OUTPUT,
        wall_ns: int | None = None,
        mono_ns: int | None = None,
    ) -> None:
        """Store one read; times are given by producers that know them better than the clock does."""
        size = len(data)
        if not size or self._closed:
            return
        wall = time.time_ns() if wall_ns is None else wall_ns
        mono = time.monotonic_ns() if mono_ns is None else mono_ns
        if self.problem is None and self._offset + size > self._rotate_bytes:
            self._look_after_files(mono)
        if self.problem is None:
            try:
                self._store(data, stream, wall, mono)
            except OSError as exc:
                self._fail(exc)
                self._hold(data, stream, wall, mono)
                return
            if not 0 <= mono - self._looked_at < LOOK_NS:
                self._look_after_files(mono)
            return
        self._hold(data, stream, wall, mono)
        if time.monotonic_ns() >= self._retry_at:
            self.retry()

    def retry(self) -> bool:
        """Try again to write what is held back; True when nothing is. For the loop's idle moments."""
        if self.problem is None:
            return True
        try:
            if self._data >= 0 and self._are_removed():
                self._take_back()
            if self._data < 0:
                self._open()
            while self._held:
                stream, wall, mono, chunk = self._held[0]
                self._store(chunk, stream, wall, mono)
                self._held_bytes -= len(chunk)
                del self._held[0]
        except OSError as exc:
            self._fail(exc)
            return False
        self.problem = None
        return True

    def position(self) -> tuple[int, int, int]:
        """Where it stopped: segment, offset in it, and the wall time of the newest record (0: none)."""
        return self._segment, self._offset, self._last_wall

    def close(self) -> None:
        """Record that the producer ended, and let go of the files; what is still held back is lost.

        A record often finds room where bytes do not, so the loss is told by one.
        """
        if self._closed:
            return
        self._closed = True
        if self.problem is None:
            self._look_after_files(self._looked_at)
        self.retry()
        self._lose(self._held_bytes)
        self._held.clear()
        self._held_bytes = 0
        if self._data >= 0:
            try:
                if self._lost:
                    self._mark(TRUNCATED, min(self._lost, MAX_LENGTH))
                    self._mid_line.clear()
                self._mark(CLOSED | (PARTIAL if self._mid_line else 0))
            except OSError as exc:
                self.problem = exc.strerror or str(exc)
            self._release()

    # -- the two files

    def _store(
        self, data: bytes | bytearray | memoryview, stream: int, wall: int, mono: int
    ) -> None:
        """Bytes, then their record (after one for what was lost before them): both or neither."""
        size = len(data)
        if self._offset and self._offset + size > self._rotate_bytes:
            self._rotate()
        start = self._offset
        lost = b""
        if self._lost:
            length = min(self._lost, MAX_LENGTH)
            lost = RECORD.pack(start, wall, mono, length, OUTPUT, TRUNCATED, MAGIC)
            self._mid_line.clear()
        flags = CONTINUED if stream in self._mid_line else 0
        partial = data[-1] != NEWLINE
        if partial:
            flags |= PARTIAL
        try:
            written = os.write(self._data, data)
            if written < size:  # a full disk takes a part, and says so at the next write
                rest = memoryview(data)
                while written < size:
                    written += os.write(self._data, rest[written:])
            self._put(lost + RECORD.pack(start, wall, mono, size, stream, flags, MAGIC))
        except OSError:
            os.ftruncate(self._data, start)
            os.lseek(self._data, start, os.SEEK_SET)
            raise
        self._lost = 0
        self._last_wall = wall
        self._offset = start + size
        if partial:
            self._mid_line.add(stream)
        else:
            self._mid_line.discard(stream)
        self._unchecked_bytes += size
        if self._unchecked_bytes > self._rotate_bytes >> 2:
            self._check_quota()

    def _put(self, records: bytes) -> None:
        try:
            written = os.write(self._index, records)
            if written < len(records):
                os.write(self._index, records[written:])  # says what is wrong
                raise OSError("the index could only be written in part")
        except OSError:
            os.ftruncate(self._index, self._index_size)
            os.lseek(self._index, self._index_size, os.SEEK_SET)
            raise
        self._index_size += len(records)

    def _mark(self, flags: int, length: int = 0) -> None:
        """A record without bytes."""
        now, mono = time.time_ns(), time.monotonic_ns()
        self._put(RECORD.pack(self._offset, now, mono, length, OUTPUT, flags, MAGIC))

    def _rotate(self) -> None:
        """Go on in a new segment. It exists before ROTATED is written, and nothing follows ROTATED."""
        _make_folder(self.folder)  # somebody may have moved it away
        data, index = self._open_segment(self.name, self._segment + 1)
        try:
            fcntl.flock(index, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._mark(ROTATED)
        except OSError:
            os.close(data)
            os.close(index)
            _remove(self.folder, self.name, self._segment + 1)
            raise
        self._release()
        self._data, self._index = data, index
        self._segment += 1
        self._offset = self._index_size = self._looked_size = 0
        self._check_quota()

    def _open(self) -> None:
        """Open the newest segment of the first name that nobody writes, and go on at its end."""
        _make_folder(self.folder)
        copies = 1
        while True:
            name = self._wanted_name if copies == 1 else f"{self._wanted_name}+{copies}"
            segment = _newest_segment(self.folder, name)
            data, index = self._open_segment(name, segment)
            try:
                fcntl.flock(index, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._data, self._index = data, index
                self.name, self._segment = name, segment
                self._resume()
                break
            except OSError as exc:
                self._data = self._index = -1
                os.close(data)
                os.close(index)
                if not isinstance(exc, BlockingIOError):
                    raise
            copies += 1
        self._looked_size = self._index_size
        now = time.monotonic_ns()
        service = os.path.dirname(self.folder)
        if now - _quota_checked.get(service, 0) > QUOTA_CHECK_NS:
            _quota_checked[service] = now
            self._check_quota()

    def _open_segment(self, name: str, segment: int) -> tuple[int, int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        index = os.open(os.path.join(self.folder, file_name(name, INDEX, segment)), flags, 0o600)
        try:
            data = os.open(os.path.join(self.folder, file_name(name, DATA, segment)), flags, 0o600)
        except OSError:
            os.close(index)
            raise
        return data, index

    def _resume(self) -> None:
        """Find the end, after a writer that may have been killed between any two writes."""
        status = os.fstat(self._data)
        end = 0
        last_wall = last_mono = 0
        self._mid_line.clear()
        size = os.fstat(self._index).st_size // RECORD_SIZE * RECORD_SIZE
        while size:
            start = max(0, size - LAST_RECORDS * RECORD_SIZE)
            block = os.pread(self._index, size - start, start)
            good = 0
            for offset, wall, mono, length, stream, flags, magic in RECORD.iter_unpack(block):
                bytes_end = offset if flags & (ROTATED | TRUNCATED | CLOSED) else offset + length
                if magic != MAGIC or bytes_end > status.st_size:
                    break
                good += RECORD_SIZE
                end, last_wall, last_mono = bytes_end, wall, mono
                if flags & (ROTATED | TRUNCATED | CLOSED):
                    self._mid_line.clear()
                elif flags & PARTIAL:
                    self._mid_line.add(stream)
                else:
                    self._mid_line.discard(stream)
            size = start + good
            if good:
                break
        os.ftruncate(self._index, size)
        os.lseek(self._index, size, os.SEEK_SET)
        self._index_size = size
        while end < status.st_size:  # bytes without a record
            length = min(status.st_size - end, MAX_LENGTH)
            flags = RECOVERED | (CONTINUED if OUTPUT in self._mid_line else 0)
            self._mid_line.discard(OUTPUT)
            if os.pread(self._data, 1, end + length - 1) != b"\n":
                flags |= PARTIAL
                self._mid_line.add(OUTPUT)
            last_wall = max(last_wall, status.st_mtime_ns)
            last_mono = last_mono or time.monotonic_ns()
            self._put(RECORD.pack(end, last_wall, last_mono, length, OUTPUT, flags, MAGIC))
            end += length
        self._offset = os.lseek(self._data, 0, os.SEEK_END)
        self._last_wall = last_wall

    def _release(self) -> None:
        try:
            # told apart from closing: a fork that has not executed its program yet shares the lock
            fcntl.flock(self._index, fcntl.LOCK_UN)
        except OSError as exc:
            self.problem = exc.strerror
        os.close(self._data)
        os.close(self._index)
        self._data = self._index = -1

    # -- files that are gone

    def _look_after_files(self, now: int) -> None:
        self._looked_at = now
        if self._data < 0 or not self._are_removed():
            self._looked_size = self._index_size
            return
        self.problem = "its files were removed"
        self.retry()

    def _are_removed(self) -> bool:
        return os.fstat(self._data).st_nlink == 0 or os.fstat(self._index).st_nlink == 0

    def _take_back(self) -> None:
        """Hold what was written since the files were there for certain, and let go of them."""
        later, self._held, self._held_bytes = self._held, [], 0
        if os.fstat(self._data).st_nlink == 0:  # else the bytes are found where they are
            size = self._index_size - self._looked_size
            records = os.pread(self._index, size, self._looked_size)
            for offset, wall, mono, length, stream, flags, _ in RECORD.iter_unpack(records):
                if not flags & NO_BYTES:
                    self._hold(os.pread(self._data, length, offset), stream, wall, mono)
        for stream, wall, mono, chunk in later:
            self._hold(chunk, stream, wall, mono)
        self._release()

    # -- what cannot be written now

    def _fail(self, exc: OSError) -> None:
        self.problem = exc.strerror or str(exc)
        self._retry_at = time.monotonic_ns() + RETRY_NS

    def _hold(
        self, data: bytes | bytearray | memoryview, stream: int, wall: int, mono: int
    ) -> None:
        """Into the ring; the oldest goes first."""
        over = len(data) - RING_BYTES
        if over > 0:
            data = memoryview(data)[over:]
            self._lose(over)
        if self._held and self._held[-1][0] == stream and len(self._held[-1][3]) < RING_BYTES >> 5:
            self._held[-1][3].extend(data)
        else:
            self._held.append((stream, wall, mono, bytearray(data)))
        self._held_bytes += len(data)
        while self._held_bytes > RING_BYTES or len(self._held) > RING_CHUNKS:
            oldest = len(self._held[0][3])
            del self._held[0]
            self._held_bytes -= oldest
            self._lose(oldest)

    def _lose(self, size: int) -> None:
        self._lost += size
        self.dropped += size

    def _check_quota(self) -> None:
        self._unchecked_bytes = 0
        keep_quota(self.folder, self.name, self._segment, self._quota_bytes)


def keep_quota(folder: str, name: str, segment: int, quota_bytes: int) -> None:
    """Remove the oldest segments of a service, oldest run first, until the rest fits its quota.

    Never removed: the given segment of `name` in `folder`, and any that is being written. A segment
    counts as at least 1/1024 of the quota, so that crash loops do not fill the folder with tiny files.
    What cannot be read or removed is passed over: the next check sees it again.
    """
    service = os.path.dirname(folder)
    least = quota_bytes >> 10
    runs: list[tuple[bool, int, str, list[tuple[int, int, str, int]]]] = []
    total = 0
    for path in _folders(service):
        segments = _segments(path)
        if segments:
            newest = max(changed for changed, _, _, _ in segments)
            runs.append((path == folder, newest, path, segments))
            total += sum(max(size, least) for _, size, _, _ in segments)
    runs.sort()
    for ours, _, path, segments in runs:
        for _, size, producer, number in sorted(segments):
            if total <= quota_bytes:
                return
            if ours and producer == name and number >= segment:
                continue
            if _is_written(path, producer, number):
                continue
            if _remove(path, producer, number):
                total -= max(size, least)
        _remove_if_empty(path)


def _folders(path: str) -> list[str]:
    try:
        return [os.path.join(path, name) for name in os.listdir(path)]
    except OSError:
        return []


def _segments(path: str) -> list[tuple[int, int, str, int]]:
    """(last change, size, producer, number) of each segment in a run's folder."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    try:
        entries = os.scandir(path)
    except OSError:
        return []
    with entries:
        for entry in entries:
            parsed = parse_file_name(entry.name)
            if parsed is None:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # somebody else removes them too
            key = parsed[0], parsed[2]
            changed, size = found.get(key, (0, 0))
            found[key] = max(changed, status.st_mtime_ns), size + status.st_size
    return [(changed, size, name, number) for (name, number), (changed, size) in found.items()]


def _make_folder(folder: str) -> None:
    """Raises OSError; also where the checkout is gone that it was in, which must not come back."""
    checkout, found, _ = folder.rpartition("/.devstack/")
    if found:
        os.stat(checkout)
    os.makedirs(folder, 0o700, exist_ok=True)


def _newest_segment(folder: str, name: str) -> int:
    newest = 0
    stem = file_name(name, INDEX, 0)
    for entry in os.listdir(folder):
        if entry.startswith(stem):  # first, because the folder may be large
            parsed = parse_file_name(entry)
            if parsed is not None and parsed[0] == name:
                newest = max(newest, parsed[2])
    return newest


def _is_written(folder: str, name: str, segment: int) -> bool:
    try:
        index = os.open(
            os.path.join(folder, file_name(name, INDEX, segment)), os.O_RDONLY | os.O_CLOEXEC
        )
    except OSError:
        return False
    try:
        fcntl.flock(index, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(index)
    return False


def _remove(folder: str, name: str, segment: int) -> bool:
    """Whether nothing of the segment is left."""
    is_gone = True
    for kind in (DATA, INDEX):
        try:
            os.unlink(os.path.join(folder, file_name(name, kind, segment)))
        except FileNotFoundError:
            continue
        except OSError:
            is_gone = False
    return is_gone


def _remove_if_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        return  # it is not, or somebody else was faster
