"""Waiting for something to be so of the State, with a deadline and an early end when it cannot be."""

import asyncio
import time
from collections.abc import Callable

from devstack.api.control import Outcome
from devstack.core.state import State
from devstack.engine.session import Session

LOOK_AGAIN_SECONDS = 1.0
"""Start time-outs pass without an event: looked at this often."""


async def wait_until(
    session: Session,
    is_so: Callable[[State], bool],
    cannot: Callable[[State, float], tuple[str, ...]],
    late: Callable[[State, float], tuple[str, ...]],
    timeout_seconds: float,
) -> Outcome:
    """0 when it is so; 1 with `cannot`'s lines as soon as there are any, with `late`'s when time is up."""
    controller = session.controller
    assert controller is not None
    deadline = time.monotonic() + timeout_seconds
    while True:
        state, now = controller.state, time.monotonic()
        # first: with nothing wanted any more, all is as it is wanted
        if state.closing or session.ended.is_set():
            return Outcome(1, ("the stack was stopped meanwhile",))
        if is_so(state):
            return Outcome()
        reasons = cannot(state, now)
        if reasons:
            return Outcome(1, reasons)
        if now >= deadline:
            return Outcome(1, late(state, now))
        await _anything(session, min(LOOK_AGAIN_SECONDS, deadline - now))


async def _anything(session: Session, seconds: float) -> None:
    """Return when an event was recorded, the stack ended, or the time is over."""
    assert session.controller is not None
    journal = session.controller.journal
    waits = {
        asyncio.ensure_future(journal.wait_after(journal.last)),
        asyncio.ensure_future(session.ended.wait()),
    }
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
