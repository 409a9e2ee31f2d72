"""The journal: the newest events in order, read by cursor.

Append-only, bounded, in memory. Readers pull with the number after which they want more, and are told
how much they missed when they fell behind; nobody subscribes and nobody is waited for.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from devstack.core.events import Event

CAPACITY = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """An event with its place in the order and the wall clock for people."""

    number: int
    wall: float
    event: Event


class Journal:
    """See the module's docstring."""

    def __init__(self, first: int = 1, capacity: int = CAPACITY) -> None:
        self._entries: deque[Entry] = deque(maxlen=capacity)
        self._next = first
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def last(self) -> int:
        """Number of the newest entry; 0 when there is none."""
        return self._next - 1

    def append(self, event: Event, wall: float) -> Entry:
        entry = Entry(self._next, wall, event)
        self._next += 1
        self._entries.append(entry)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        return entry

    def after(self, number: int) -> tuple[int, list[Entry]]:
        """(how many entries were missed, entries with a higher number)."""
        if not self._entries or number >= self.last:
            return 0, []
        oldest = self._entries[0].number
        missed = max(0, oldest - number - 1)
        return missed, [entry for entry in self._entries if entry.number > number]

    def tail(self, count: int) -> list[Entry]:
        """The newest entries, oldest first."""
        return list(self._entries)[-count:]

    async def wait_after(self, number: int) -> None:
        """Return when there is an entry with a higher number."""
        while self.last <= number:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
