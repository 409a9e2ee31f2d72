"""How a set of processes is ended so that none escapes: stop all, look again, kill, until none is left.

A stopped process starts no other, so once a second look finds nothing new the set is complete.
"""

from __future__ import annotations

import signal
import time

from devstack.keeper.processes import Process, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_SECONDS = 0.002


def freeze_and_kill(find: Callable[[], list[Process]]) -> list[Process]:
    """One pass over what `find` lists; gives back what was sent SIGKILL. Does not wait for the ends."""
    frozen: dict[tuple[int, int], Process] = {}
    while True:
        fresh = [
            process for process in find() if process.is_alive and process.identity not in frozen
        ]
        if not fresh:
            break
        for process in fresh:
            frozen[process.identity] = process
            send(process, signal.SIGSTOP)
    for process in frozen.values():
        send(process, signal.SIGKILL)
    return list(frozen.values())


def kill_until_none(
    find: Callable[[], list[Process]], reap: Callable[[], None], timeout_seconds: float
) -> list[Process]:
    """Kill until `find` lists nothing alive; gives back all that were killed, each once.

    The time-out is for processes that the kernel itself holds (a dead network file system).
    """
    killed: dict[tuple[int, int], Process] = {}
    deadline = time.monotonic() + timeout_seconds
    while True:
        for process in freeze_and_kill(find):
            killed[process.identity] = process
        reap()
        if not any(process.is_alive for process in find()) or time.monotonic() > deadline:
            reap()
            return list(killed.values())
        time.sleep(PAUSE_SECONDS)
