"""How bytes of a service become text that is safe to show: one line, no control but colours.

A line of a log may hold anything: a terminal must not move its cursor, change its title or its
clipboard, or answer to it. Only SGR (colour, bold) may stay. Whole control sequences are removed;
of one that never ends only its introducer is, so that nothing can be hidden behind it.
"""

from __future__ import annotations

import re

_ODD = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_SEQUENCE = re.compile(
    "(\x1b\\[[0-9;:]*m)"  # SGR
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # other control sequences: cursor, erase, modes
    "|(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)"  # OSC, DCS, ...
    "|\x1b[ -/]*[0-~]"  # reset, charsets, keypad
    "|[\x1b\x07\x08\x0e\x0f\x9b\x9d\x90\x98\x9e\x9f]"  # introducers of what never ends, bell, shifts
)
_CONTROL = re.compile("[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f]|\x1b(?!\\[[0-9;:]*m)")


def plain_text(data: bytes) -> str:
    """The text of a line without any control sequence, progress collapsed to its last state."""
    text = data.decode("utf-8", "replace")
    if _ODD.search(text) is None:
        return text
    return _clean(_SEQUENCE.sub("", text))


def coloured_text(data: bytes) -> str:
    """As `plain_text`, but SGR stays; ends with a reset where there was any."""
    text = data.decode("utf-8", "replace")
    if _ODD.search(text) is None:
        return text
    text = _clean(_SEQUENCE.sub(lambda found: found[1] or "", text))
    return f"{text}\x1b[0m" if "\x1b" in text else text


def _clean(text: str) -> str:
    if "\r" in text:
        text = text.rstrip("\r").rpartition("\r")[2]
    return _CONTROL.sub("\ufffd", text)
