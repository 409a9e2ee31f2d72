"""The keeper's hold on its run folder: one keeper a folder, and what was removed of it is put back."""

from __future__ import annotations

import fcntl
import os
import time

from devstack.keeper.notes import note
from devstack.keeper.places import PlaceRefused, make_folders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.keeper.connections import Listener
    from devstack.keeper.marks import Run
    from devstack.keeper.places import Places

LOCK_SECONDS = 15.0
PAUSE_SECONDS = 0.01


class Hold:
    """A lock in the folder, as long as this process lives."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = -1

    def take(self) -> bool:
        """False when another keeper keeps it: one that kills what it had gets the time it needs."""
        self._lock = self._open_lock()
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(PAUSE_SECONDS)

    def restore(self, run: Run, listener: Listener) -> None:
        """Somebody may have emptied the temp folder; a run without its files could not be found."""
        try:
            if not os.path.lexists(run.record) or not listener.is_in_place:
                self._restore(run, listener)
        except (OSError, PlaceRefused) as exc:
            note(f"cannot restore the run folder: {exc}")

    def _restore(self, run: Run, listener: Listener) -> None:
        make_folders(self._places)
        lock = self._open_lock()
        try:
            if not os.path.sameopenfile(lock, self._lock):
                # refused: a second keeper has come
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock, self._lock = self._lock, lock
        finally:
            os.close(lock)
        run.write()
        if not listener.is_in_place:
            listener.bind()

    def _open_lock(self) -> int:
        return os.open(self._places.keeper_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
