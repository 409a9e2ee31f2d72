"""What keeper and warden say when something goes wrong: lines in `keeper.log`, which is their output."""

from __future__ import annotations

import sys
import time


def note(line: str) -> None:
    """One line, or what was said about an exception."""
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        sys.stderr.write(f"{when} {line}\n")
        sys.stderr.flush()
    except OSError:
        return  # the disk is full: nobody must die of what he cannot say
