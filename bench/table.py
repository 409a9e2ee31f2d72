"""What was measured, against what, and whether it is within its limit: rows, and how they are shown."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; all times in seconds unless `unit` says otherwise."""

    what: str
    measured: float
    limit: float | None = None
    """None: told for comparison, not judged."""
    against: str = ""
    base: float | None = None
    """What the same took without devstack, where that can be had."""
    unit: str = "s"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.measured / self.base if self.base else None

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return "-"
        return "ok" if self.measured <= self.limit else "MISSED"


def median(values: Sequence[float]) -> float:
    """The middle one; a noisy machine makes a few far too long."""
    return statistics.median(values)


def spread(values: Sequence[float], unit: str = "s") -> str:
    """`2.21-2.48 s, n=3`."""
    return f"{shown(min(values))}-{shown(max(values))} {unit}, n={len(values)}"


def shown(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


HEAD = ("what", "measured", "limit", "verdict", "by hand", "ratio", "notes")


def as_markdown(rows: Iterable[Row]) -> str:
    """The table as text that is also Markdown."""
    lines = [HEAD, *map(_cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    written = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    written.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(written)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what,
        f"{shown(row.measured)} {row.unit}",
        f"{shown(row.limit)} {row.unit}" if row.limit is not None else "-",
        row.verdict,
        f"{shown(row.base)} {row.unit}" if row.base is not None else "-",
        f"{row.ratio:.2f}x" if row.ratio is not None else "-",
        ", ".join(text for text in (row.against, row.note) if text),
    )
