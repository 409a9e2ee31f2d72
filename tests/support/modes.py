"""Is a file's mode right from its first moment: the kernel tells each change that came after it was made."""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_CREATE, _ATTRIB = 0x100, 0x4
_HEAD = struct.Struct("iIII")


@dataclass(slots=True)
class Seen:
    """Names in the order of what happened to them; complete when the watch is over."""

    made: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Those whose mode or owner was set after they were made."""


@contextmanager
def watched_modes(folder: Path) -> Iterator[Seen]:
    """Watch a folder (inotify); meanwhile nothing is masked, so that a mode is what its maker says."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert watch >= 0, os.strerror(ctypes.get_errno())
    before = os.umask(0)
    seen = Seen()
    try:
        added = libc.inotify_add_watch(watch, os.fsencode(folder), _CREATE | _ATTRIB)
        assert added >= 0, os.strerror(ctypes.get_errno())
        yield seen
        events = os.read(watch, 1 << 20)
    finally:
        os.umask(before)
        os.close(watch)
    while events:
        _, mask, _, length = _HEAD.unpack_from(events)
        name = events[_HEAD.size : _HEAD.size + length].rstrip(b"\0").decode()
        (seen.made if mask & _CREATE else seen.changed).append(name)
        events = events[_HEAD.size + length :]
