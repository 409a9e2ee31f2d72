"""How commands speak: data on stdout, talk on stderr, errors as `cannot …` with a hint."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO

FINE, FAILED, USAGE, NO_CONTROLLER, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
BROKEN_PIPE = 141


class Failed(Exception):
    """Ends the command with a message for people; expected, so never with a traceback."""

    def __init__(self, message: str, hint: str = "", *, code: int = FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


def usage_error(message: str, hint: str = "") -> Failed:
    """The command was written wrongly."""
    return Failed(message, hint, code=USAGE)


def data(lines: Iterable[str]) -> None:
    """What was asked for."""
    text = "".join(f"{line}\n" for line in lines)
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


def say(*lines: str) -> None:
    """Talk, warnings, errors."""
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def complain(failure: Failed) -> int:
    """Tell why the command ends, and with which code."""
    say(str(failure))
    if failure.hint:
        say(f"hint: {failure.hint}")
    return failure.code


def confirm(question: str, *, or_write: str) -> None:
    """Ask before data is removed; anything but yes ends the command, and so does nobody to ask."""
    if not sys.stdin.isatty():
        raise usage_error("cannot remove data without a yes", or_write)
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failed("nothing was removed")


def finish(exit_code: int, lines: Iterable[str]) -> int:
    """End with what the controller answered."""
    if exit_code == FINE:
        data(lines)
    else:
        say(*lines)
    return exit_code


def is_plain(stream: TextIO, environment: Mapping[str, str] | None = None) -> bool:
    """Whether only plain text may go there: no colour, nothing redrawn."""
    env = os.environ if environment is None else environment
    if not stream.isatty() or env.get("TERM", "") in ("", "dumb"):
        return True
    return bool(env.get("NO_COLOR")) or bool(env.get("CI"))
