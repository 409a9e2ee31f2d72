"""How values become text on a terminal: aligned columns, ages, and nothing that moves a cursor.

Imported by light commands too.
"""

from __future__ import annotations

import unicodedata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows aligned by the width that terminals give each character; nothing behind the last one."""
    safe = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(map(_width, column)) for column in zip(*safe, strict=True)]
    return [
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in safe
    ]


def age(seconds: float) -> str:
    """How long, in the two largest units that tell something."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def one_line(text: str) -> str:
    """The first line of a message, safe on a terminal."""
    first, _, rest = text.strip().partition("\n")
    return printable(first) + (" …" if rest else "")


def printable(text: str) -> str:
    """Text from a program or a file, without anything that moves a cursor."""
    return "".join(
        character if not unicodedata.category(character).startswith("C") else " "
        for character in text
    )


def _width(text: str) -> int:
    return sum(
        0
        if unicodedata.combining(character)
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )
