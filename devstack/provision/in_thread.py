"""Runs blocking work of the event loop's in a thread of its own.

Not the loop's pool: it has few threads, and its threads hold back the interpreter's end until the
last socket times out. A cancelled wait tells the work to stop and leaves at once.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

from devstack.bootstrap.stopping import Stop

T = TypeVar("T")


async def in_thread(work: Callable[[Stop], T]) -> T:
    """The result of `work(stop)`; `stop` is set when the wait is cancelled."""
    stop = Stop()
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            value = work(stop)
        except BaseException as exc:  # the edge of the thread: it is raised in the waiting task
            outcome.set_exception(exc)
        else:
            outcome.set_result(value)

    threading.Thread(target=run, name="devstack-provision", daemon=True).start()
    try:
        return await asyncio.wrap_future(outcome)
    finally:
        stop.set()
