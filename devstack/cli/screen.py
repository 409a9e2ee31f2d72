"""What `up` shows: plain lines, or on a terminal rows that are redrawn with a clock.

Both have the same methods, called from one loop; nothing here reads, waits or decides.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from devstack.api.text import printable
from devstack.cli import talk

if TYPE_CHECKING:
    from rich.progress import TaskID

HEARTBEAT_SECONDS = 10.0
_MARKS = {"good": "✓", "bad": "✗"}
_STYLES = {"good": "green", "bad": "red"}
_MOST_PENDING = 6
_FORGET_SECONDS = 10.0
_REDRAW_SECONDS = 0.2
_BAR = 12
_BESIDE = len("⠋  ") + _BAR + len("  99.9 of 99.9 MB  0:00:00")
"""Columns of a row that are not its text; a text that took their room would hide that time passes."""


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that happened, as it came over the wire."""

    service: str | None
    text: str
    kind: str
    title: str | None = None
    done: float | None = None
    total: float | None = None
    unit: str = "steps"

    @property
    def is_progress(self) -> bool:
        return self.title is not None

    @property
    def is_finished(self) -> bool:
        return self.done is not None and self.total is not None and self.done >= self.total

    def line(self) -> str:
        """For people, on one line or more."""
        mark = f"{_MARKS[self.kind]} " if self.kind in _MARKS else ""
        name = f"{self.service}: " if self.service else ""
        return mark + name + "\n".join(map(printable, self.text.splitlines()))


def told_of(data: Mapping[str, object]) -> Told:
    """Read what the controller told."""
    service, progress = data.get("service"), data.get("progress")
    told = Told(
        None if service is None else str(service), str(data.get("text", "")), str(data.get("kind"))
    )
    if not isinstance(progress, dict):
        return told
    return Told(
        told.service,
        told.text,
        told.kind,
        title=str(progress.get("title", "")),
        done=_number(progress.get("done")),
        total=_number(progress.get("total")),
        unit=str(progress.get("unit", "steps")),
    )


class Screen(Protocol):
    """See the module's docstring."""

    def told(self, told: Told) -> None:
        """Something happened."""
        ...

    def counts(self, settled: int, total: int, pending: Sequence[tuple[str, str, str]]) -> None:
        """How far all is; pending are (service, state, reason)."""
        ...

    def stopping(self, text: str) -> None:
        """What still runs while everything is being stopped."""
        ...

    def say(self, text: str) -> None:
        """Talk."""
        ...

    def data(self, lines: Sequence[str]) -> None:
        """What was asked for, on stdout."""
        ...

    def settle(self) -> None:
        """Nothing is waited for any more: no rows, only lines."""
        ...

    def tick(self) -> None:
        """Called several times a second."""
        ...


def choose_screen(title: str) -> Screen:
    """The one that fits stderr; decided before anything slow is imported."""
    if talk.is_plain(sys.stderr):
        return PlainScreen(title)
    return RowsScreen(title)


class PlainScreen:
    """A line for each thing that happens, and one now and then while nothing does."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._started = self._spoke_at = time.monotonic()
        self._is_waiting = True
        self._waits_for = "the controller"
        self._stopping = ""
        self._shown: set[tuple[str | None, str]] = set()

    def told(self, told: Told) -> None:
        if told.title is not None:
            key = (told.service, told.title)
            if told.is_finished:
                self._shown.discard(key)
            elif key not in self._shown:
                self._shown.add(key)
                self.say(f"{told.service or self._title}: {printable(told.title)}")
            return
        self.say(told.line())

    def counts(self, settled: int, total: int, pending: Sequence[tuple[str, str, str]]) -> None:
        self._waits_for = pending_text(pending) or f"{total - settled} of {total}"

    def stopping(self, text: str) -> None:
        self._is_waiting = False
        if not self._stopping:
            self.say(text)
        self._stopping = text

    def say(self, text: str) -> None:
        self._spoke_at = time.monotonic()
        talk.say(text)

    def data(self, lines: Sequence[str]) -> None:
        talk.data(lines)

    def settle(self) -> None:
        self._is_waiting = False

    def tick(self) -> None:
        now = time.monotonic()
        if now - self._spoke_at < HEARTBEAT_SECONDS:
            return
        if self._stopping:
            self.say(self._stopping)
        elif self._is_waiting:
            self.say(f"still waiting for {self._waits_for} ({now - self._started:.0f} s)")


class SilentScreen:
    """For a terminal that is gone."""

    def told(self, told: Told) -> None: ...
    def counts(self, settled: int, total: int, pending: Sequence[tuple[str, str, str]]) -> None: ...
    def stopping(self, text: str) -> None: ...
    def say(self, text: str) -> None: ...
    def data(self, lines: Sequence[str]) -> None: ...
    def settle(self) -> None: ...
    def tick(self) -> None: ...


class RowsScreen:
    """One row for the stack with a clock, and one for each thing that takes long; lines go above."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = Console(file=sys.stderr, highlight=False, emoji=False, markup=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_BAR),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            auto_refresh=False,  # redrawn from the loop: a thread would die loudly with its terminal
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._title = title
        self._whole = self._progress.add_task(f"starting {title}", total=None, amount="")
        self._rows: dict[tuple[str | None, str], _Row] = {}
        self._drawn_at = 0.0
        self._is_shown = True
        self._progress.start()

    def told(self, told: Told) -> None:
        if told.title is None:
            self._above(told.line(), _STYLES.get(told.kind))
            return
        key = (told.service, told.title)
        if told.is_finished:
            self._drop(key)
            return
        if key not in self._rows:
            name = f"{told.service}: " if told.service else ""
            text = self._fit(name + printable(told.title))
            task = self._progress.add_task(text, total=None, amount="")
            self._rows[key] = _Row(task)
        row = self._rows[key]
        row.seen_at = time.monotonic()
        self._progress.update(
            row.task,
            total=told.total,
            completed=told.done or 0.0,
            amount=_amount(told),
        )

    def counts(self, settled: int, total: int, pending: Sequence[tuple[str, str, str]]) -> None:
        preparing = {name for name, state, _ in pending if state == "preparing"}
        for key in [k for k in self._rows if k[0] is not None and k[0] not in preparing]:
            self._drop(key)
        self._progress.update(
            self._whole,
            description=self._fit(f"starting {self._title}: {pending_text(pending)}"),
            total=total,
            completed=settled,
            amount=f"{settled} of {total}",
        )

    def stopping(self, text: str) -> None:
        for key in list(self._rows):
            self._drop(key)
        if not self._is_shown:
            self._is_shown = True
            self._progress.start()
        self._progress.update(self._whole, description=self._fit(text), total=None, amount="")
        self._draw()

    def say(self, text: str) -> None:
        self._above(text, None)

    def data(self, lines: Sequence[str]) -> None:
        if self._is_shown:
            self._progress.stop()  # takes the rows away: what goes to stdout must not run into them
        talk.data(lines)
        if self._is_shown:
            self._progress.start()

    def settle(self) -> None:
        if self._is_shown:
            self._is_shown = False
            self._progress.stop()

    def tick(self) -> None:
        now = time.monotonic()
        if not self._is_shown or now - self._drawn_at < _REDRAW_SECONDS:
            return
        for key, row in list(self._rows.items()):
            if key[0] is None and now - row.seen_at > _FORGET_SECONDS:
                self._drop(key)
        self._draw()

    def _fit(self, text: str) -> str:
        room = max(10, self._console.width - _BESIDE)
        return text if len(text) <= room else text[: room - 1] + "…"

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        self._progress.refresh()

    def _above(self, text: str, style: str | None) -> None:
        self._console.print(text, style=style, soft_wrap=True)

    def _drop(self, key: tuple[str | None, str]) -> None:
        row = self._rows.pop(key, None)
        if row is not None:
            self._progress.remove_task(row.task)


@dataclass(slots=True)
class _Row:
    task: "TaskID"
    seen_at: float = 0.0


def pending_text(pending: Sequence[tuple[str, str, str]]) -> str:
    """`orders preparing, payments waiting and 3 more`."""
    words = [f"{name} {state}" for name, state, _ in pending[:_MOST_PENDING]]
    more = len(pending) - len(words)
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")


def _amount(told: Told) -> str:
    if told.done is None:
        return ""
    if told.unit == "bytes":
        done = f"{told.done / 1e6:.1f}"
        return f"{done} MB" if told.total is None else f"{done} of {told.total / 1e6:.1f} MB"
    return f"{told.done:g}" if told.total is None else f"{told.done:g} of {told.total:g}"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
