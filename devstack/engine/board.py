"""What happens, for those who watch: lines of events and the progress of slow steps.

Each follower has a queue of its own; whoever follows for a slow client bounds it (`api.feed`).
"""

import asyncio
from collections.abc import AsyncIterator

from devstack.api.control import Told
from devstack.core.tell import Line
from devstack.steps import Progress


class Board:
    """Tells followers; nothing is kept for those who come later."""

    def __init__(self) -> None:
        self._followers: set[asyncio.Queue[Told | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def open(self) -> None:
        """From the loop on which followers wait."""
        self._loop = asyncio.get_running_loop()

    def tell(self, line: Line) -> None:
        """Tell a line."""
        self._put(Told(line.service, line.text, line.tone.value))

    def report(self, service: str, progress: Progress) -> None:
        """Tell how far something is; may be called from any thread."""
        told = Told(service, progress.title, progress=progress)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._put, told)

    def close(self) -> None:
        """Nothing more will be told."""
        self._is_closed = True
        self._put(None)

    def _put(self, told: Told | None) -> None:
        for follower in self._followers:
            follower.put_nowait(told)

    async def follow(self) -> AsyncIterator[Told]:
        """What is told from now on."""
        queue: asyncio.Queue[Told | None] = asyncio.Queue()
        self._followers.add(queue)
        try:
            while not self._is_closed or not queue.empty():
                told = await queue.get()
                if told is None:
                    return
                yield told
        finally:
            self._followers.discard(queue)
