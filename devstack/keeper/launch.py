"""Starting a keeper and waiting until it answers.

The start itself is `starting`, which a controller imports long before it has an event loop.
"""

import asyncio
import os
import sys

from devstack.keeper.errors import KeeperUnreachable
from devstack.keeper.places import Places
from devstack.keeper.starting import Starting, spawn_keeper

START_SECONDS = 20.0


async def start_keeper(
    places: Places, *, run_id: str | None = None, open_files: int | None = None
) -> str:
    """Start a warden with its keeper and wait until the socket answers; gives the run's id.

    `open_files` is the soft limit that children get, where the controller raised its own. Raises
    `KeeperUnreachable` with what the keeper said.
    """
    if sys.platform != "linux":
        raise KeeperUnreachable("cannot start the keeper: it needs Linux")
    try:
        starting = spawn_keeper(places, run_id=run_id, open_files=open_files)
    except OSError as exc:
        raise KeeperUnreachable(f"cannot start the keeper: {exc.strerror}") from exc
    await keeper_started(places, starting)
    return starting.run_id


async def keeper_started(places: Places, starting: Starting) -> None:
    """Wait until a keeper that was spawned answers at its socket. Raises `KeeperUnreachable`."""
    loop = asyncio.get_running_loop()
    _reap_when_ended(loop, starting.pid)
    said = await _read_line(loop, starting.ready)
    if said != b"ready":
        reason = said.decode("utf-8", "replace") or "it ended at once"
        raise KeeperUnreachable(f"cannot start the keeper: {reason}, see {places.keeper_log}")


def _reap_when_ended(loop: asyncio.AbstractEventLoop, pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # it ended, and this process ignores the ends of its children

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return

    loop.add_reader(descriptor, ended)


async def _read_line(loop: asyncio.AbstractEventLoop, descriptor: int) -> bytes:
    """What comes before the other side closes, without its newline; empty when that takes too long."""
    os.set_blocking(descriptor, False)
    done: asyncio.Future[bytes] = loop.create_future()
    content = bytearray()

    def readable() -> None:
        data = os.read(descriptor, 4096)
        content.extend(data)
        if (not data or b"\n" in content) and not done.done():
            done.set_result(bytes(content).strip())

    loop.add_reader(descriptor, readable)
    try:
        async with asyncio.timeout(START_SECONDS):
            return await done
    except TimeoutError:
        return b"it does not answer"
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
