"""Runs a command on a terminal and notes when something changed there."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.cli.wakeful import WakefulClock

ROWS, COLUMNS = 40, 120


@dataclass(frozen=True, slots=True)
class Recording:
    """What stood on the terminal when, in seconds since the start."""

    code: int
    frames: tuple[tuple[float, bytes], ...]
    seconds: float

    @property
    def text(self) -> str:
        return b"".join(frame for _, frame in self.frames).decode(errors="replace")

    @property
    def longest_pause(self) -> tuple[float, float, bytes]:
        """The longest time without a change: how long, when it began, and what stood there."""
        changes = [(0.0, b"")]
        for at, frame in self.frames:
            if frame != changes[-1][1]:  # the same drawn once more is no change
                changes.append((at, frame))
        changes.append((self.seconds, b""))
        return max((after[0] - before[0], *before) for before, after in pairwise(changes))


def record(argv: Sequence[str], environment: Mapping[str, str], *, seconds: float) -> Recording:
    """Run a command to its end on a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    clock = WakefulClock()
    began = clock.now()
    process = subprocess.Popen(argv, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    frames: list[tuple[float, bytes]] = []
    try:
        while (left := began + seconds - clock.now()) > 0:
            if not clock.wait(min(left, 0.2), ours):
                if process.poll() is not None:
                    break  # what it left running may hold the terminal open
                continue
            try:
                frame = os.read(ours, 65536)
            except OSError:  # nobody holds the terminal open any more
                break
            frames.append((clock.now() - began, frame))
        code = process.wait(timeout=10)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
    end = frames[-1][0] if frames else clock.now() - began
    return Recording(code, tuple(frames), end)
