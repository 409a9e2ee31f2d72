"""The controller's process from its lock to its end: session, control socket, signals."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from devstack.api.control import UpRequest
from devstack.api.server import ControlServer, SocketTaken
from devstack.api.wire import LOCK_HELD
from devstack.engine.control import StackControl
from devstack.engine.session import Legacy, Session
from devstack.keeper.places import Places
from devstack.keeper.starting import Starting

log = logging.getLogger("devstack.controller")


def live(
    places: Places, file: Path, *, adopt: bool, open_files: int, starting: Starting | None
) -> int:
    """Look after one stack until it is down; gives the exit code."""
    session = Session(places, file, open_files=open_files, starting=starting)
    control = StackControl(session)
    server = ControlServer(control, places, has_new_keeper=starting is not None)
    return asyncio.run(_live(session, control, server, adopt=adopt))


async def _live(
    session: Session, control: StackControl, server: ControlServer, *, adopt: bool
) -> int:
    _stop_on_signals(control)
    code = 0
    try:
        async with asyncio.TaskGroup() as tasks:
            living = tasks.create_task(session.live())
            if adopt:  # first, or the first to ask would be told that there is nothing
                await _adopt(control, session)
            serving = tasks.create_task(server.serve())
            ended = tasks.create_task(session.ended.wait())
            await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                await server.close()
            for task in (living, ended):
                task.cancel()
            await asyncio.wait({living})
            await session.abandon()
    except* SocketTaken as group:
        log.error("%s", group.exceptions[0])
        code = LOCK_HELD
    return code


async def _adopt(control: StackControl, session: Session) -> None:
    """Take over what runs, as it was applied, with the environment of that `up`."""
    try:
        legacy = Legacy.of(sys.stdin.read())
    except ValueError as error:
        log.error("cannot take over what runs: %s; devstack up does", error)
        session.ended.set()
        return
    session.inherit(legacy)
    outcome = await control.adopt(UpRequest(legacy.stack, dict(os.environ), legacy.offline))
    if not outcome.ok:
        log.error("%s", "\n".join(outcome.lines))
        session.ended.set()


def _stop_on_signals(control: StackControl) -> None:
    """TERM ends the stack as `down` does; a terminal's signals are its clients' business."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: control.release_lease(lost=False))
    for number in (signal.SIGINT, signal.SIGHUP):
        # a handler and not SIG_IGN, which the keeper and all replicas would inherit
        loop.add_signal_handler(number, lambda: None)
