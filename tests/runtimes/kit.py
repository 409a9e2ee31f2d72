"""The process runtime as a session has it: an engine on a real keeper."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from devstack.core.model import Service, Stack
from devstack.core.state import State
from devstack.engine.assembly import Engine, assemble
from devstack.engine.board import Board
from devstack.engine.folders import Folders
from devstack.keeper.errors import KeeperUnreachable
from devstack.keeper.places import Places
from devstack.provision.tool import Settings
from devstack.runtimes.base import ReplicaRuntime
from tests.support.processes import PATIENCE_SECONDS, assert_nothing_left


@asynccontextmanager
async def serving(
    folder: Path,
    places: Places,
    *services: Service,
    leaves: bool = False,
    notices: list[str] | None = None,
) -> AsyncIterator[Engine]:
    """As `Session` does it: open, serve, end. `leaves`: the keeper goes on for the next controller."""
    folders = Folders.of(folder / "stack.yaml")
    folders.make()
    settings = Settings(folder / "cache", True, os.environ["PATH"], {})
    board = Board()
    board.open()
    told = notices if notices is not None else []
    engine = assemble(
        places,
        folders,
        folder / "stack.yaml",
        settings,
        board,
        open_files=None,
        starting=None,
        notice=lambda _, text: told.append(text),
        state=State,
    )
    names = {each.name: each for each in services}
    stack = Stack("bench", places.stack_id, str(folder / "stack.yaml"), str(folder), names)
    engine.book.assign(stack)
    engine.surroundings.stack = stack
    engine.surroundings.environment = {"PATH": os.environ["PATH"], "MARK": "shell"}
    runs: list[tuple[str, int, int]] = []

    async def opened(client: object) -> None:
        del client
        greeting = engine.link.client.greeting
        runs.append((greeting.run_id, greeting.pid, greeting.warden))
        await engine.link.client.mode("detached" if leaves else "attached")

    engine.link.on_open = opened
    await engine.link.open()
    task = asyncio.create_task(engine.link.serve())
    try:
        yield engine
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        client = engine.link.client
        if leaves:
            client.close()
        else:
            with suppress(KeeperUnreachable):
                await client.shutdown()
            await asyncio.wait_for(client.closed.wait(), 10)
            for run, keeper, warden in runs:
                await asyncio.to_thread(
                    assert_nothing_left, run, roots=(keeper, warden), within=PATIENCE_SECONDS
                )


async def nothing_to_recover(runtime: ReplicaRuntime, *, runs: int = 0) -> None:
    """Wait until every end is acknowledged; `runs` replicas run."""
    async with asyncio.timeout(20):
        while True:
            recovery = await runtime.recover()
            if not recovery.ended:
                break
            await asyncio.sleep(0.01)
    assert len(recovery.running) == runs
