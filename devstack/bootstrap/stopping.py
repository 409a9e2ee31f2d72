"""How work that blocks in a thread is told that nobody waits for it any more."""

import threading


class Stopped(Exception):
    """The caller gave up; raised inside the work."""


class Stop:
    """Set by the caller, looked at by the work."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        if self._event.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than the caller does."""
        if self._event.wait(seconds):
            raise Stopped
