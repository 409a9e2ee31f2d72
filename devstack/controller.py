"""`python -m devstack.controller --file PATH [--adopt]`: one stack's controller process.

Takes the stack's lock, serves the control socket, and looks after the stack until it is down. With
`--adopt` (the keeper starts it so when an earlier controller died) it loads the file and takes over
what runs without being asked.
"""
# ruff: noqa: E402 - the collector is told to rest before anything is imported

import gc

gc.disable()  # half a thousand modules leave it nothing to find: 70 of 350 ms before the first service
import asyncio
import fcntl
import logging
import os
import resource
import signal
import sys
from pathlib import Path

from devstack.api.control import UpRequest
from devstack.api.server import ControlServer, SocketTaken
from devstack.engine.control import StackControl
from devstack.engine.session import Session
from devstack.keeper.places import PlaceRefused, Places, make, stack_id_of

gc.freeze()
gc.enable()

log = logging.getLogger("devstack.controller")

EXIT_TAKEN = 4
"""Another controller has the stack's lock."""


def main(arguments: list[str]) -> int:
    """Run a controller to the end of its stack; the exit code is for whoever started it."""
    logging.basicConfig(
        level=os.environ.get("DEVSTACK_LOG", "WARNING").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    file = Path(arguments[arguments.index("--file") + 1]).resolve()
    adopt = "--adopt" in arguments
    try:
        places = make(stack_id_of(str(file)))
    except PlaceRefused as refused:
        log.error("%s; hint: %s", refused, refused.hint)
        return 1
    lock = _take_lock(places)
    if lock is None:
        return EXIT_TAKEN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        return asyncio.run(_run(places, file, adopt=adopt, open_files=soft))
    finally:
        os.close(lock)


def _take_lock(places: Places) -> int | None:
    """Hold the stack's lock for life; None when another controller does."""
    descriptor = os.open(places.controller_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.truncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


async def _run(places: Places, file: Path, *, adopt: bool, open_files: int) -> int:
    session = Session(places, file, open_files=open_files)
    control = StackControl(session)
    server = ControlServer(control, places)
    _stop_on_signals(control)
    code = 0
    try:
        async with asyncio.TaskGroup() as tasks:
            living = tasks.create_task(session.live())
            if adopt:  # first, or the first to ask would be told that there is nothing
                await _adopt(control, session, file)
            serving = tasks.create_task(server.serve())
            ended = tasks.create_task(session.ended.wait())
            await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                await server.close()
            for task in (living, ended):
                task.cancel()
    except* SocketTaken as group:
        log.error("%s", group.exceptions[0])
        code = EXIT_TAKEN
    return code


async def _adopt(control: StackControl, session: Session, file: Path) -> None:
    """Take over what runs with the environment that the first `up` had; else there is nothing to do."""
    outcome = await control.adopt(UpRequest(file, dict(os.environ)))
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
