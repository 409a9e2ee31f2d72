"""How a line is shown: prefixed and harmless on a terminal, as an object for `--json`, as bytes for `--raw`."""

from __future__ import annotations

import time
from functools import lru_cache

from devstack.logs import levels
from devstack.logs.ansi import coloured_text, plain_text
from devstack.logs.query import Gap, Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_DIM = "\x1b[2m"
_RESET = "\x1b[0m"


class Renderer:
    """Lines for a terminal: aligned prefixes, which grow when a longer name comes."""

    def __init__(
        self, names: Iterable[str] = (), *, colour: bool = False, times: bool = False
    ) -> None:
        self._width = max((len(name) for name in names), default=0)
        self._colour = colour
        self._times = times
        self._colours: dict[str, int] = {}

    def render(self, item: Line | Gap) -> str:
        """One line of text, without the newline."""
        name = shown_name(item)
        self._width = max(self._width, len(name))
        prefix = f"{name:<{self._width}} | "
        if self._colour:
            chosen = self._colours.setdefault(
                item.service, _COLOURS[len(self._colours) % len(_COLOURS)]
            )
            prefix = f"\x1b[{chosen}m{prefix}{_RESET}"
        if self._times:
            prefix = f"{local_time(item.wall_ns)} {prefix}"
        if isinstance(item, Gap):
            text = gap_text(item)
            return prefix + (f"{_DIM}{text}{_RESET}" if self._colour else text)
        return prefix + (coloured_text(item.text) if self._colour else plain_text(item.text))


def shown_name(item: Line | Gap) -> str:
    """The prefix of a line: the slot's name, or the service and its step."""
    name = _harmless(item.producer.partition("#")[0])
    return name if name.startswith(item.service) else f"{item.service} {name}"


@lru_cache(maxsize=1024)
def _harmless(name: str) -> str:
    """A producer's name comes from a file's, which may be anybody's: a repository can bring logs."""
    return plain_text(name.encode("utf-8", "surrogateescape"))


def gap_text(gap: Gap) -> str:
    """What is told instead of the output that is not shown."""
    what = f"{gap.size:,} bytes" if gap.lines is None else f"{gap.lines:,} lines"
    if gap.reason == "lost":
        return f"[devstack: {what} were lost here: they could not be written]"
    return f"[devstack: skipped {what}; they are in the log]"


def line_object(item: Line | Gap) -> dict[str, object]:
    """The object of `logs --json`: `kind` is `line` or `gap`.

    `text` is as the service wrote it, control sequences too; bytes that are no UTF-8 are replaced there
    and `base64` has them all.
    """
    entry: dict[str, object] = {
        "schema": 1,
        "kind": "line" if isinstance(item, Line) else "gap",
        "service": item.service,
        "run": item.run,
        "producer": _harmless(item.producer),
        "time": utc_time(item.wall_ns),
        "monotonic_ns": item.mono_ns,
    }
    if isinstance(item, Gap):
        return entry | {"bytes": item.size, "lines": item.lines, "reason": item.reason}
    entry |= {
        "stream": item.stream,
        "level": None if item.continued else levels.level_of(item.text),
        "partial": item.partial,
        "continued": item.continued,
    }
    try:
        return entry | {"text": item.text.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode

        whole = b64encode(item.text).decode("ascii")
        return entry | {"text": item.text.decode("utf-8", "replace"), "base64": whole}


def raw_bytes(item: Line | Gap) -> bytes:
    """Exactly what was written."""
    if isinstance(item, Gap):
        return b""
    return item.text if item.partial else item.text + b"\n"


def utc_time(wall_ns: int) -> str:
    """RFC 3339 with microseconds."""
    seconds, rest = divmod(wall_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"


def local_time(wall_ns: int) -> str:
    """Time of day with milliseconds, as the user's clock shows it."""
    seconds, rest = divmod(wall_ns, 10**9)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest // 1_000_000:03d}"
