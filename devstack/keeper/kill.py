"""How a set of processes is ended so that none escapes: stop all, look again, kill, until none is left.

A stopped process starts no other, so once a second look finds nothing new the set is complete. What
may not be signalled (a setuid program, `sudo`) or does not die of it (held by the kernel) is told
apart from what was killed: nobody may believe that it is gone.
"""

from __future__ import annotations

import signal
import time

from devstack.keeper.processes import Process, is_running, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from devstack.keeper.processes import Identity

PAUSE_SECONDS = 0.002
REFUSED_SECONDS = 1.0
"""How long is waited for processes that take no signal of ours, once no other is left."""
MOST_LOOKS = 100
"""In one pass; only somebody who starts processes that may not be signalled makes it so many."""


class Killed:
    """What became of the processes that were to be killed."""

    __slots__ = ("killed", "left")

    def __init__(self, killed: list[Process], left: list[Process]) -> None:
        self.killed = killed
        self.left = left
        """Alive all the same."""


def freeze_and_kill(find: Callable[[], list[Process]]) -> tuple[list[Process], list[Process]]:
    """One pass over what `find` lists; gives what was sent SIGKILL, and what may not be signalled.

    Does not wait for the ends.
    """
    frozen: dict[Identity, Process] = {}
    refused: dict[Identity, Process] = {}
    for _ in range(MOST_LOOKS):
        fresh = [
            process
            for process in find()
            if process.is_alive
            and process.identity not in frozen
            and process.identity not in refused
        ]
        before = len(frozen)
        for process in fresh:
            known = frozen if send(process, signal.SIGSTOP) else refused
            known[process.identity] = process
        if len(frozen) == before:
            break
    for process in frozen.values():
        send(process, signal.SIGKILL)
    return list(frozen.values()), [p for p in refused.values() if is_running(p.identity)]


def kill_until_none(
    find: Callable[[], list[Process]], reap: Callable[[], None], timeout_seconds: float
) -> Killed:
    """Kill until `find` lists nothing alive, or what it lists does not die within the time-out."""
    killed: dict[Identity, Process] = {}
    started = time.monotonic()
    while True:
        sent, _ = freeze_and_kill(find)
        for process in sent:
            killed[process.identity] = process
        reap()
        left = {process.identity: process for process in find() if process.is_alive}
        passed = time.monotonic() - started
        patience = timeout_seconds if sent else min(timeout_seconds, REFUSED_SECONDS)
        if not left or passed > patience:
            reap()
            gone = [process for key, process in killed.items() if key not in left]
            return Killed(gone, list(left.values()))
        time.sleep(max(PAUSE_SECONDS, passed / 8))  # the longer they take, the rarer a look
