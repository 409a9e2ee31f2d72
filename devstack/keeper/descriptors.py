"""The last file descriptors of the keeper: kept for looking at processes and ending them."""

from __future__ import annotations

import errno
import os
import resource

KEPT = 16


def check_room() -> None:
    """Before something is taken for longer: raise as the system would, a few descriptors early."""
    taken = len(os.listdir("/proc/self/fd"))  # not by the lowest that is free: there may be gaps
    if taken + KEPT >= resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
