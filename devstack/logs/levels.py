"""How severe a line says it is: fields of JSON logs, and the marks of common text formats."""

from __future__ import annotations

import re
from functools import cache

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")

_WORDS = {
    "trace": "trace", "trc": "trace", "verbose": "trace", "silly": "trace", "finest": "trace",
    "debug": "debug", "dbg": "debug", "debu": "debug", "fine": "debug",
    "info": "info", "inf": "info", "information": "info", "notice": "info", "note": "info",
    "log": "info", "system": "info", "statement": "info", "default": "info", "http": "info",
    "warn": "warn", "wrn": "warn", "warning": "warn",
    "error": "error", "err": "error", "eror": "error", "severe": "error",
    "fatal": "fatal", "ftl": "fatal", "critical": "fatal", "crit": "fatal", "panic": "fatal",
    "emerg": "fatal", "emergency": "fatal", "alert": "fatal", "dpanic": "fatal",
}  # fmt: skip
_LETTERS = {"T": "trace", "D": "debug", "I": "info", "N": "info", "W": "warn", "E": "error", "F": "fatal", "C": "fatal"}  # fmt: skip
_SYSLOG = ("fatal", "fatal", "fatal", "error", "warn", "info", "info", "debug")
_FIELDS = ("level", "severity", "lvl", "levelname", "log.level", "loglevel", "s")

_HEAD = 256
"""A mark stands near the start of a line."""
_LONGEST_JSON = 64 << 10
_MOST_DIGITS = 6
"""No library's levels have more; Python refuses to read thousands."""
_SGR = re.compile(rb"\x1b\[[0-9;:]*m")
_NAMES = "|".join(sorted(_WORDS, key=len, reverse=True))
_PATTERN = (
    rf"(?i:\b(?:level|lvl|severity)=\"?(?P<field>{_NAMES})\b)"
    rf"|(?i:[\[<(]\s*(?P<bracket>{_NAMES})\s*[\])>])"
    rf"|^(?P<letter>[TDIWEFC])\d{{4}} \d\d:\d\d:\d\d"
    rf"|^(?i:(?P<first>{_NAMES}))(?=[:!\]]|\s*[:|-]\s|\s+\[)"
    rf"|^npm (?P<npm>(?i:ERR|WARN))\b"
    rf"|(?:^|[\s|:\]])(?P<upper>{_NAMES.upper()})(?=[\s|:\]]|$)"
    rf"|^(?P<crash>Traceback \(most recent|panic: |fatal error: |Uncaught |Unhandled |Exception in thread )"
    rf"|^(?P<raised>\w*(?:Error|Exception): )"
).encode()


@cache
def _marks() -> re.Pattern[bytes]:
    return re.compile(_PATTERN)  # compiled when first asked for: `devstack logs` mostly does not


def rank(level: str) -> int:
    """Position of a level from the least severe."""
    return LEVELS.index(level)


def from_word(word: str) -> str | None:
    """The level that a word of some logging library means."""
    return _WORDS.get(word.strip().lower())


def level_of(text: bytes) -> str | None:
    """The level a line names, or None."""
    if b"\x1b" in text[:_HEAD]:
        text = _SGR.sub(b"", text[: _HEAD * 2])
    if text[:1] == b"{":
        level = _of_json(text)
        if level is not None:
            return level
    found = _marks().search(text[:_HEAD])
    if found is None:
        return None
    kind, mark = found.lastgroup, found[found.lastgroup or 0].decode("ascii", "replace")
    if kind == "letter":
        return _LETTERS[mark]
    if kind in ("crash", "raised"):
        return "fatal" if mark.startswith(("panic", "fatal")) else "error"
    return from_word(mark)


def _of_json(text: bytes) -> str | None:
    import json

    if len(text) > _LONGEST_JSON:
        return None
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for field in _FIELDS:
        level = _of_value(entry.get(field))
        if level is not None:
            return level
    return None


def _of_value(value: object) -> str | None:
    if isinstance(value, str):
        if value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS:
            value = int(value)
        elif len(value) <= 2 and value[:1] in _LETTERS:  # MongoDB: I, W, E, D1 to D5
            return _LETTERS[value[0]]
        else:
            return from_word(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not 0 <= value < 10**_MOST_DIGITS:  # NaN is neither
        return None
    if value < len(_SYSLOG):
        return _SYSLOG[int(value)]
    # pino and bunyan: 10 trace to 60 fatal
    return LEVELS[min(max(int(value) // 10 - 1, 0), len(LEVELS) - 1)]
