"""Who follows a controller that was lost: when the next one is started, and that it is only one.

Not at once: whoever killed the controller may be about to kill the warden or us. And not more than
three in a minute: one that dies at once must not keep the machine busy. Until it greets it is no
controller: if we die before, it goes with everything else.
"""

from __future__ import annotations

import collections
import os
import time

from devstack.keeper import processes, spawn
from devstack.keeper.loop import READ
from devstack.keeper.notes import note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from devstack.keeper.loop import Loop, Timer
    from devstack.keeper.processes import Identity
    from devstack.keeper.verbs import Command

PAUSE_SECONDS = 0.03
LOOK_SECONDS = 1.0
PER_MINUTE = 3


class Succession:
    """Starts `command` while `is_wanted` and what it started before is gone."""

    def __init__(
        self, loop: Loop, around: spawn.Surroundings, is_wanted: Callable[[], bool]
    ) -> None:
        self._loop = loop
        self._around = around
        self._is_wanted = is_wanted
        self.command: Command | None = None
        self._started: Identity | None = None
        self._timer: Timer | None = None
        self._times: collections.deque[float] = collections.deque()

    def plan(self, seconds: float = PAUSE_SECONDS) -> None:
        """Start a controller then, if one is still wanted."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.after(seconds, self._start_if_wanted)

    def look(self) -> None:
        """Some process ended: if it is the one that was started, it may need a successor itself."""
        if self._started is not None and not processes.is_running(self._started):
            self._started = None
            self.plan()

    def _start_if_wanted(self) -> None:
        if self.command is None or not self._is_wanted():
            return
        if self._started is not None:
            self.plan(LOOK_SECONDS)  # one is on its way, or on its way out
            return
        now = time.monotonic()
        while self._times and self._times[0] <= now - 60:
            self._times.popleft()
        if len(self._times) >= PER_MINUTE:
            self.plan(self._times[0] + 60 - now)
            return
        self._times.append(now)
        try:
            pid, report = self._start(self.command)
        except OSError as exc:
            note(f"cannot start a controller: {exc}")
            self.plan(LOOK_SECONDS)
            return
        self._started = pid, processes.start_of(pid)

        def told(_: int) -> None:
            failure = spawn.read_failure(report)
            self._loop.forget(report)
            os.close(report)
            if failure is not None:
                why = os.strerror(failure.number)
                note(f"cannot start a controller: {failure.path}: {why}")

        self._loop.watch(report, READ, told)

    def _start(self, command: Command) -> tuple[int, int]:
        opened: list[int] = []
        try:
            said = _open_output(command.output)
            opened.append(said)
            given = os.memfd_create("given")
            opened.append(given)
            os.write(given, command.given.encode("utf-8", "surrogateescape"))
            stdin = f"/proc/self/fd/{given}"  # opened anew, so read from its beginning
            program = spawn.Program(command.argv, command.env, command.cwd, stdin=stdin)
            return spawn.start(program, None, self._around, said)
        finally:
            for descriptor in opened:
                os.close(descriptor)


def _open_output(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
