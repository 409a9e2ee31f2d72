"""A clock for what must not stand still: a machine that stands still itself is no fault of what is watched."""

import select
import time


class WakefulClock:
    """Counts the time in which this process was woken when it had asked for it.

    Whoever watches waits with it alone, and for short times: what a wait takes beyond its time-out, this
    machine ran neither the watcher nor, as far as can be known, the watched.
    """

    def __init__(self) -> None:
        self._lost = 0.0

    def now(self) -> float:
        """Seconds, as `time.monotonic`, less what was lost."""
        return time.monotonic() - self._lost

    def wait(self, seconds: float, descriptor: int | None = None) -> bool:
        """Whether there is something to read; False when the time is over."""
        began = time.monotonic()
        watched = [] if descriptor is None else [descriptor]
        ready = select.select(watched, [], [], seconds)[0]
        self._lost += max(0.0, time.monotonic() - began - seconds)
        return bool(ready)
