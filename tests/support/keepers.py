"""A keeper for a test, and the programs that a test lets it start."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from devstack.keeper import places
from devstack.keeper.answers import Exit, Process
from devstack.keeper.client import KeeperClient
from devstack.keeper.launch import start_keeper
from devstack.keeper.places import Places
from devstack.keeper.requests import LogTarget, SpawnSpec, View
from tests.support.processes import PATIENCE_SECONDS, assert_nothing_left, eventually_async

PYTHON = sys.executable
WORST_SERVICE = str(Path(__file__).with_name("worst_service.py"))
STACK_ID = "0123456789"


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


def spec(
    key: str,
    *argv: str,
    group: str = "service",
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    log: LogTarget | None = None,
    view: View | None = None,
    nice: int = 0,
    stdin: str = os.devnull,
    capture_bytes: int | None = None,
) -> SpawnSpec:
    return SpawnSpec(
        key=key,
        group=group,
        argv=argv,
        env=environment() if env is None else env,
        cwd=cwd,
        log=log,
        view=view,
        nice=nice,
        stdin=stdin,
        capture_bytes=capture_bytes,
    )


def worst(key: str, tag: str, *options: str, log: LogTarget | None = None) -> SpawnSpec:
    return spec(key, PYTHON, "-I", "-S", WORST_SERVICE, tag, *options, log=log)


def make_places(folder: Path, stack_id: str = STACK_ID) -> Places:
    """The run folder of a stack below a short folder of the test's own."""
    return places.make(stack_id, {"XDG_RUNTIME_DIR": str(folder)})


@contextlib.asynccontextmanager
async def running_keeper(place: Places) -> AsyncIterator[KeeperClient]:
    """A keeper with a greeted controller; at the end it is shut down and nothing of it is left."""
    run_id = await start_keeper(place)
    client = await KeeperClient.connect(place.keeper_socket)
    roots = (client.greeting.pid, client.greeting.warden)
    try:
        yield client
    finally:
        if not client.closed.is_set():
            await client.shutdown()
            await asyncio.wait_for(client.closed.wait(), 10)
        await asyncio.to_thread(assert_nothing_left, run_id, roots=roots, within=PATIENCE_SECONDS)


async def exit_of(client: KeeperClient, key: str, within: float = 20.0) -> Exit:
    """The exit of one process; those of others that come before it are dropped."""
    async with asyncio.timeout(within):
        while True:
            ended = await client.exits.get()
            if ended.key == key:
                return ended


async def run_to_end(client: KeeperClient, asked: SpawnSpec) -> Exit:
    await client.spawn(asked)
    return await exit_of(client, asked.key)


async def up(client: KeeperClient, asked: SpawnSpec, ready: Path) -> Process:
    """Start a worst service and wait until it is set up."""
    process = await client.spawn(asked)
    await eventually_async(lambda: read_if_there(ready), 20)
    return process


def read_if_there(path: Path) -> str:
    """The content of a file that somebody will write; empty until then."""
    return path.read_text() if path.exists() else ""
