"""What is told to a client that may be slower than it happens: bounded, the oldest is left out first.

A reader that stands still holds up nobody, and what is kept for it does not grow.
"""

import asyncio
from collections import deque

from devstack.api.control import Told

MOST = 1000


class Feed:
    """A queue of `Told` for one client; a newer state of the same progress replaces the older one."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._waiting: deque[Told] = deque()
        self._skipped = 0
        self._has_changed = asyncio.Event()
        self._is_finished = False

    def put(self, told: Told) -> None:
        """Add what happened; never waits."""
        if told.progress is not None:
            self._drop_older(told)
        self._waiting.append(told)
        if len(self._waiting) > self._most:
            self._waiting.popleft()
            self._skipped += 1
        self._has_changed.set()

    def finish(self) -> None:
        """Nothing more will come."""
        self._is_finished = True
        self._has_changed.set()

    async def get(self) -> Told | None:
        """The next one, or a word about those that were left out; None at the end."""
        while not self._waiting:
            if self._is_finished:
                return None
            self._has_changed.clear()
            await self._has_changed.wait()
        if self._skipped:
            skipped, self._skipped = self._skipped, 0
            return Told(None, f"{skipped} messages were left out: this client was too slow")
        return self._waiting.popleft()

    def _drop_older(self, told: Told) -> None:
        assert told.progress is not None
        for waiting in self._waiting:
            if (
                waiting.progress is not None
                and waiting.service == told.service
                and waiting.progress.title == told.progress.title
            ):
                self._waiting.remove(waiting)
                return
