"""How durations are written: `500ms`, `10s`, `1m30s`, `2d`, or a number of seconds.

The stack file and the command line read them here; how long something may be is theirs to say.
"""

from __future__ import annotations

import re

PATTERN = r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+|[0-9]+(?:\.[0-9]+)?"
"""For editors too: in the words that Python and JSON Schema share."""

_PART = re.compile(r"([0-9.]+)([a-z]*)")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_TEXT = 40


def seconds_of(text: str) -> float | None:
    """The seconds a text stands for; None where it is no duration."""
    if len(text) > _LONGEST_TEXT or not re.fullmatch(PATTERN, text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
