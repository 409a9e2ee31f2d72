"""How output gets from pipes into log files and memory: rest, drain, store.

A pipe that can be read is left alone for 5 ms, so that a chatty service costs one read instead of
hundreds. One that was found half full is given more room, and then read at once for a while: lines
that do not fit a page's rest leave up to half of a full pipe empty.
"""

from __future__ import annotations

import os
import time

from devstack.keeper.loop import ONCE, READ
from devstack.keeper.notes import note
from devstack.keeper.spawn import grow_pipe, pipe_size
from devstack.logs.writer import LogWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from devstack.keeper.loop import Loop

REST_SECONDS = 0.005
HURRY_SECONDS = 0.02
ROOM = 256 << 10
MOST_AT_ONCE = 1 << 20
"""After so much of one pipe the others get their turn."""
MOST_AT_EXIT = 16 << 20
"""More than any pipe holds: what comes after it was written after the exit."""
RETRY_SECONDS = 0.25
MOST_WAITING = 16
"""Logs of ended processes whose last words find no room: 4 MiB at most."""


class Tail:
    """The last bytes of something."""

    __slots__ = ("_data", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    def append(self, data: bytes | memoryview) -> None:
        self._data += data
        if len(self._data) > 2 * self._limit:
            del self._data[: -self._limit]

    def content(self) -> bytes:
        return bytes(self._data[-self._limit :]) if self._limit else b""


class Output:
    """Our end of one process's pipe, and where its bytes go."""

    __slots__ = ("descriptor", "half", "hurry_until", "log", "resting", "stream", "tail")

    def __init__(self, descriptor: int, log: SharedLog | None, stream: int, tail: Tail | None):
        self.descriptor = descriptor
        self.log = log
        self.stream = stream
        self.tail = tail
        self.half = pipe_size(descriptor) // 2
        self.hurry_until = 0.0
        self.resting = False

    @property
    def is_open(self) -> bool:
        return self.descriptor >= 0

    def captured(self) -> bytes:
        return self.tail.content() if self.tail is not None else b""


class SharedLog:
    """A writer and how many processes write through it: steps of one service share theirs."""

    __slots__ = ("key", "problem", "users", "writer")

    def __init__(self, key: tuple[str, str], writer: LogWriter) -> None:
        self.key = key
        self.writer = writer
        self.users = 0
        self.problem: str | None = None


class Drains:
    """All pipes that are read, and all logs that are written."""

    def __init__(self, loop: Loop, on_problem: Callable[[SharedLog], None]) -> None:
        self._loop = loop
        self._on_problem = on_problem
        self._resting: list[Output] = []
        self._buffer = bytearray(ROOM)
        self._view = memoryview(self._buffer)
        self._logs: dict[tuple[str, str], SharedLog] = {}
        self._is_retrying = False
        self._open: set[Output] = set()

    def open(
        self, descriptor: int, target: tuple[str, str] | None, stream: int, keep_bytes: int
    ) -> Output:
        """Read a pipe from now on; `target` is the folder and name of its log."""
        tail = Tail(keep_bytes) if keep_bytes else None
        output = Output(descriptor, self._log(target) if target else None, stream, tail)
        self._open.add(output)
        self._loop.watch(descriptor, READ | ONCE, lambda _: self._readable(output))
        return output

    def finish(self, output: Output) -> None:
        """Take what is there now; whoever holds the other end may still write."""
        taken = 0
        while output.is_open and taken < MOST_AT_EXIT:
            size = self._drain(output)
            taken += size
            if size == 0:
                break
        if output.is_open:
            self._arm(output)

    def close(self, output: Output) -> None:
        """Take what is there now and read no more."""
        if output.is_open:
            self._drain(output)
        self._end(output)

    def close_all(self) -> None:
        """Take what is there and close every log, as the keeper ends."""
        for output in list(self._open):
            self.close(output)
        for log in list(self._logs.values()):
            self._close(log)

    def _readable(self, output: Output) -> None:
        if output.hurry_until and time.monotonic() < output.hurry_until:
            self._drain_and_arm(output)
        elif not output.resting:
            output.resting = True
            if not self._resting:
                self._loop.after(REST_SECONDS, self._read_rested)
            self._resting.append(output)

    def _read_rested(self) -> None:
        rested, self._resting = self._resting, []
        for output in rested:
            output.resting = False
            if output.is_open:
                self._drain_and_arm(output)

    def _drain_and_arm(self, output: Output) -> None:
        size = self._drain(output)
        if output.is_open:
            if size >= output.half:
                if output.half < ROOM // 2:
                    output.half = grow_pipe(output.descriptor, ROOM) // 2
                output.hurry_until = time.monotonic() + HURRY_SECONDS
            self._arm(output)

    def _arm(self, output: Output) -> None:
        self._loop.change(output.descriptor, READ | ONCE)

    def _drain(self, output: Output) -> int:
        """Read until the pipe is empty or others want their turn; at its end, close it."""
        total = 0
        while total < MOST_AT_ONCE:
            try:
                size = os.readv(output.descriptor, [self._buffer])
            except BlockingIOError:
                break
            except OSError:
                size = 0
            if size == 0:
                self._end(output)
                break
            total += size
            data = self._view[:size]
            if output.log is not None:
                output.log.writer.append(data, output.stream)
                if output.log.writer.problem != output.log.problem:
                    self._note_problem(output.log)
            if output.tail is not None:
                output.tail.append(data)
            if size < output.half:
                break  # that was all there was
        return total

    def _end(self, output: Output) -> None:
        if output.is_open:
            self._open.discard(output)
            self._loop.forget(output.descriptor)
            os.close(output.descriptor)
            output.descriptor = -1
        log, output.log = output.log, None
        if log is not None:
            log.users -= 1
            if log.users == 0:
                self._let_go(log)

    def _let_go(self, log: SharedLog) -> None:
        """Nobody writes through it any more, but last words may still wait for room on the disk."""
        if log.writer.retry():
            self._close(log)
            return
        waiting = [other for other in self._logs.values() if not other.users]
        if len(waiting) > MOST_WAITING:
            self._close(waiting[0])

    def _close(self, log: SharedLog) -> None:
        del self._logs[log.key]
        log.writer.close()
        problem, dropped = log.writer.problem, log.writer.dropped
        if problem is not None:
            note(f"log of {log.key[1]} in {log.key[0]}: {problem}; {dropped} bytes lost")
        if problem is not None or log.problem is not None:  # lost for good, or well at last
            log.problem = problem
            self._on_problem(log)

    def _log(self, key: tuple[str, str]) -> SharedLog:
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = SharedLog(key, LogWriter(*key))
            if log.writer.problem is not None:
                self._note_problem(log)
        log.users += 1
        return log

    def _note_problem(self, log: SharedLog) -> None:
        log.problem = log.writer.problem
        self._on_problem(log)
        if log.problem is not None and not self._is_retrying:
            self._is_retrying = True
            self._loop.after(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._is_retrying = False
        for log in list(self._logs.values()):
            if log.problem is None:
                continue
            log.writer.retry()
            if log.writer.problem is None and not log.users:
                self._close(log)
            elif log.writer.problem != log.problem:
                self._note_problem(log)
            elif not self._is_retrying:
                self._is_retrying = True
                self._loop.after(RETRY_SECONDS, self._retry)
