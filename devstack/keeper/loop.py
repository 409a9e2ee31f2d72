"""The keeper's event loop: descriptors, timers, nothing else.

One thread. A handler never blocks; a timer is a heap entry that may be cancelled.
"""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
ONCE = select.EPOLLONESHOT


class Timer:
    """Something to do later."""

    __slots__ = ("call", "due", "serial")

    def __init__(self, due: float, serial: int, call: Callable[[], None] | None) -> None:
        self.due = due
        self.serial = serial
        self.call = call

    def __lt__(self, other: Timer) -> bool:
        return (self.due, self.serial) < (other.due, other.serial)

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Waits for descriptors and timers and calls what was registered for them.

    An exception that escapes one of these calls is a bug. `on_failure` hears of it, and the loop goes on
    without that descriptor or timer, so that what runs can be ended in order.
    """

    def __init__(self, on_failure: Callable[[Exception], None]) -> None:
        self._on_failure = on_failure
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._fresh: set[int] = set()
        """Watched since the last look: an event of that look on such a number is an older owner's."""
        self._timers: list[Timer] = []
        self._serial = 0
        self._ended = False

    def watch(self, descriptor: int, events: int, handler: Callable[[int], None]) -> None:
        self._handlers[descriptor] = handler
        self._fresh.add(descriptor)
        self._epoll.register(descriptor, events)

    def change(self, descriptor: int, events: int) -> None:
        if descriptor in self._handlers:  # else: its handler failed
            self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Before the descriptor is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        self._serial += 1
        timer = Timer(time.monotonic() + seconds, self._serial, call)
        heapq.heappush(self._timers, timer)
        return timer

    def end(self) -> None:
        """Return from `run` without another call."""
        self._ended = True

    def run(self) -> None:
        while not self._ended:
            self._fresh.clear()
            for descriptor, events in self._epoll.poll(self._patience()):
                self._call_handler(descriptor, events)
            self._run_timers()

    def _call_handler(self, descriptor: int, events: int) -> None:
        handler = self._handlers.get(descriptor)
        if handler is None or descriptor in self._fresh or self._ended:
            return  # forgotten by an earlier handler of this round, or what was ready was another's
        try:
            handler(events)
        except Exception as exc:
            self._handler_failed(descriptor, handler, exc)

    def _handler_failed(
        self, descriptor: int, handler: Callable[[int], None], exc: Exception
    ) -> None:
        if self._handlers.get(descriptor) is handler:
            self.forget(descriptor)  # it would be called again at once
        self._on_failure(exc)

    def _patience(self) -> float | None:
        """Seconds until the next timer, None when there is none."""
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, self._timers[0].due - time.monotonic())

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0].due <= now and not self._ended:
            call = heapq.heappop(self._timers).call
            if call is not None:
                try:
                    call()
                except Exception as exc:
                    self._on_failure(exc)
