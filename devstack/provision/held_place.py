"""The right to make one folder of the tool cache, waited for without blocking the event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from devstack.bootstrap.cache import (
    PlaceLock,
    make_private_folder,
    move_into_place,
    remove_scratch,
    remove_tree,
    scratch_folder,
)
from devstack.steps import Progress, StepRunner

_WAIT_SECONDS = 0.1


@asynccontextmanager
async def held_place(place: Path, steps: StepRunner, what: str) -> AsyncIterator[Path]:
    """A scratch folder beside `place`; only one process at a time is in the body for a place."""
    make_private_folder(place.parent.parent)
    make_private_folder(place.parent)
    lock = PlaceLock(place)
    while not lock.try_acquire():
        # The end of another process's lock cannot be awaited.
        steps.report(Progress(f"wait for another devstack: {what}"))
        await asyncio.sleep(_WAIT_SECONDS)
    try:
        remove_scratch(place)
        scratch = scratch_folder(place)
        try:
            yield scratch
        finally:
            await asyncio.to_thread(remove_tree, scratch)
    finally:
        lock.release()


async def keep(made: Path, place: Path) -> None:
    """Give what was made in the scratch folder its name, without blocking the event loop.

    Cancelled or not, it returns when nothing is moved any more: else half a folder, whose other half
    is being removed, could get the name.
    """
    moving = asyncio.create_task(asyncio.to_thread(move_into_place, made, place))
    try:
        await asyncio.shield(moving)
    finally:
        await moving
