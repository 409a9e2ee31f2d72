"""Tells how far a program is that tells nothing itself, by the bytes it has put on disk."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from devstack.steps import Progress, StepRunner

_INTERVAL_SECONDS = 0.4


@asynccontextmanager
async def watched(
    steps: StepRunner, title: str, folder: Path, total: int | None = None
) -> AsyncIterator[None]:
    """While the body runs, report the growth of `folder` under `title`."""
    steps.report(Progress(title))
    task = asyncio.create_task(_watch(steps, title, folder, total))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    if total is not None:
        steps.report(Progress(title, total, total, "bytes"))


async def _watch(steps: StepRunner, title: str, folder: Path, total: int | None) -> None:
    while True:
        await asyncio.sleep(_INTERVAL_SECONDS)
        done = _size_of(folder)
        steps.report(Progress(title, min(done, total or done), total, "bytes"))


def _size_of(folder: Path) -> int:
    """Bytes in all files below; files that vanish meanwhile count nothing."""
    size = 0
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return size
