"""What is asked of the store, and what comes back: Query, Line, Gap, and which lines a query keeps.

Named tuples instead of dataclasses: a million lines are made in a second, and `devstack logs` starts
without importing `inspect`. Reading files belongs to `reader`, words on a terminal to `render`.
"""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

from devstack.logs import levels
from devstack.logs.ansi import plain_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

CURRENT = "current"
PREVIOUS = "previous"
ALL = "all"

_MOST_DIGITS = 20
_REGULAR_EXPRESSION = "it is a regular expression: put a backslash before . * + ? ( ) [ ] { } ^ $ | to mean themselves"
_UNITS = {"ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


class QueryError(ValueError):
    """A query that cannot be answered, with the next step for the person who asked."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Line(NamedTuple):
    """One line, or a piece of one: a piece is `partial`, and what follows it is `continued`."""

    service: str
    run: str
    producer: str
    """The replica's id, or the step's."""
    stream: str
    wall_ns: int
    """When its last byte arrived."""
    mono_ns: int
    text: bytes
    """Without the newline; `text + b"\\n"` (or `text` where partial), joined, are the bytes written."""
    partial: bool
    """No newline follows: the piece of a huge line, or the last words of a producer."""
    continued: bool


class Gap(NamedTuple):
    """Output that is not shown."""

    service: str
    run: str
    producer: str
    wall_ns: int
    mono_ns: int
    size: int
    """Bytes."""
    lines: int | None
    """How many lines ended in it, where that is known."""
    reason: Literal["lost", "skipped"]
    """`lost`: could not be written. `skipped`: this reader was too slow; the file has them."""


class Query(NamedTuple):
    """Which lines are wanted."""

    services: tuple[str, ...] = ()
    """Empty: all."""
    streams: Literal["all", "run", "build"] = "all"
    since_ns: int | None = None
    """Wall time; see `parse_since`."""
    tail: int | None = None
    grep: str | None = None
    level: str | None = None
    """The least severe one that is shown; a line that names none goes with the line before it."""
    run: str = CURRENT
    """`current` is the newest run there is, also when nothing runs; `previous`, `all`, or an id."""


class Filter:
    """Decides line by line, for one producer; remembers the level that unmarked lines go with."""

    def __init__(self, query: Query) -> None:
        self._since = query.since_ns
        self._streams = query.streams
        self._grep = compile_grep(query.grep) if query.grep is not None else None
        self._least = levels.rank(parse_level(query.level)) if query.level is not None else None
        self._levels: dict[str, int] = {}
        self.keeps_all = query == Query(query.services, tail=query.tail, run=query.run)

    def keeps(self, line: Line) -> bool:
        """Whether the query wants this line; to be asked about every line, in order."""
        if self._streams != "all" and (line.stream == "build") != (self._streams == "build"):
            return False
        if self._least is not None and not self._is_severe(line, self._least):
            return False
        if self._since is not None and line.wall_ns < self._since:
            return False
        return self._grep is None or self._grep.search(plain_text(line.text)) is not None

    def _is_severe(self, line: Line, least: int) -> bool:
        found = None if line.continued else levels.level_of(line.text)
        if found is not None:
            self._levels[line.stream] = levels.rank(found)
        return self._levels.get(line.stream, levels.rank("info")) >= least


def compile_grep(pattern: str) -> re.Pattern[str]:
    """The pattern of `--grep`, or QueryError."""
    import re

    try:
        return re.compile(pattern)
    except re.error as exc:
        where = "" if exc.pos is None else f" at character {exc.pos + 1}"
        raise QueryError(
            f"cannot search for '{pattern}': {exc.msg}{where}",
            _REGULAR_EXPRESSION,
        ) from exc
    except (OverflowError, RecursionError) as exc:
        raise QueryError(f"cannot search for '{pattern}': {exc}", _REGULAR_EXPRESSION) from exc


def parse_level(text: str) -> str:
    """The level that a word of the user's means, or QueryError."""
    level = levels.from_word(text)
    if level is None:
        raise QueryError(f"there is no level '{text}'", f"one of {', '.join(levels.LEVELS)}")
    return level


def parse_since(text: str, now_ns: int | None = None) -> int:
    """Wall time for `10m`, `1h30m`, `2026-01-31T15:04:05Z`, `2026-01-31` or `15:04`, or QueryError.

    A time without a zone is local; a time of day is the last one that was.
    """
    now = time.time_ns() if now_ns is None else now_ns
    text = text.strip()
    ago = _duration(text)
    if ago is not None:
        return now - ago
    from datetime import datetime, timedelta
    from datetime import time as time_of_day

    try:
        if ":" in text and "-" not in text:
            here = datetime.fromtimestamp(now / 1e9).astimezone()
            moment = datetime.combine(here.date(), time_of_day.fromisoformat(text)).astimezone()
            if moment > here:
                moment -= timedelta(days=1)
        else:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.astimezone()
    except (ValueError, OverflowError) as exc:
        raise QueryError(
            f"cannot read the time '{text}'",
            "write how long ago (10m, 2h, 1h30m) or when (2026-01-31T15:04:05, 15:04)",
        ) from exc
    return int(moment.timestamp() * 1_000_000) * 1000


def _duration(text: str) -> int | None:
    """Nanoseconds of `1h30m`, or None for what is no duration."""
    total = 0
    rest = text
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("dhms"))]
        if unit not in _UNITS or number.count(".") > 1 or not number.strip("."):
            return None
        if len(number) > _MOST_DIGITS:
            return None
        total += int(float(number) * _UNITS[unit])
        rest = rest[len(unit) :]
    return total if text else None
