"""Why a program did not start, in one line: the place in the source and its last words.

Reads the last lines it wrote, in the forms in which Python, Node and Go say where they failed.
"""

import re
from collections.abc import Iterator

from devstack.core.events import Exit

_PLACES = (
    re.compile(r'^\s*File "(?P<file>[^"<]+)", line (?P<line>\d+)'),  # Python
    re.compile(r"^\s*at .*?(?:file://)?(?P<file>/[^\s():]+\.[cm]?[jt]s):(?P<line>\d+):\d+\)?$"),
    re.compile(r"^(?:file://)?(?P<file>/[^\s:]+\.[cm]?[jt]s):(?P<line>\d+)$"),  # Node, syntax
    re.compile(r"^\s+(?P<file>/[^\s:]+\.go):(?P<line>\d+)(?: \+0x[0-9a-f]+)?$"),  # Go, panic
)
_FOREIGN = ("/site-packages/", "/lib/python3", "/node_modules/", "/src/runtime/", "/pkg/mod/")
_WORDS = re.compile(r"^(?:panic: |fatal error: |(?:[\w.]*(?:Error|Exception|Exit|Warning))\b)")


def summary(exit_: Exit) -> str:
    """How it ended, with `app.py:12` and the error where its last lines tell them.

    What is known beyond the code (who has its port) is told as well: the program cannot know it.
    """
    words = _words(exit_.tail)
    if not words:
        return str(exit_)
    place = next(_places(exit_.tail), "")
    known = f"{exit_.message}: " if exit_.message else ""
    return f"{known}{place} {words}" if place else f"{exit_}: {words}"


def refusal(error: OSError) -> str:
    """What the system refused, and where: `/a/b: No space left on device`."""
    where = f"{error.filename}: " if error.filename else ""
    return where + (error.strerror or str(error) or type(error).__name__)


def _words(tail: tuple[str, ...]) -> str:
    lines = [line.strip() for line in tail if line.strip()]
    named = [line for line in lines if _WORDS.match(line)]
    return (named or lines or [""])[-1]


def _places(tail: tuple[str, ...]) -> Iterator[str]:
    """Places in the user's own files, the most telling first: Python tells the innermost last."""
    python, *others = _PLACES
    yield from _matches(python, reversed(tail))
    for pattern in others:
        yield from _matches(pattern, iter(tail))


def _matches(pattern: re.Pattern[str], lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        match = pattern.match(line)
        if match is not None and not any(part in match["file"] for part in _FOREIGN):
            yield f"{match['file'].rpartition('/')[2]}:{match['line']}"
