"""What happened lately, in lines for people: kept over controllers of one boot, ended by `down`.

One JSON array a line, appended, so that telling one more thing costs one small write however much there
was; written anew when half of it is no longer kept. A line that a killed writer left unfinished is
passed over.
"""

import json
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from devstack.core.tell import Line, Tone

KEPT_LINES = 1000
_NEVER = -1


class History:
    """The newest lines of one stack, and their file."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._lines: deque[tuple[float, str | None, str, str]] = deque(maxlen=KEPT_LINES)
        self._unwritten = 0
        self._in_file = _NEVER
        """How many lines the file has; it is written anew where that is not known."""

    def lines(self) -> list[tuple[float, Line]]:
        """(Unix time, line), oldest first."""
        return [
            (wall, Line(service, text, Tone(tone))) for wall, service, text, tone in self._lines
        ]

    def add(self, line: Line, wall: float) -> None:
        """Keep a line of what happened."""
        self._lines.append((wall, line.service, line.text, line.tone.value))
        self._unwritten = min(self._unwritten + 1, KEPT_LINES)

    def write(self) -> None:
        """Bring the file up to date. Raises OSError; what could not be written is tried again."""
        if not self._unwritten:
            return
        in_file, self._in_file = (
            self._in_file,
            _NEVER,
        )  # where this fails, part may have been written
        if in_file == _NEVER or in_file + self._unwritten > 2 * KEPT_LINES:
            temporary = self._path.with_suffix(".tmp")
            _write(temporary, [[self._boot_id], *self._lines], os.O_TRUNC)
            temporary.replace(self._path)
            self._in_file = len(self._lines)
        else:
            _write(self._path, list(self._lines)[-self._unwritten :], os.O_APPEND)
            self._in_file = in_file + self._unwritten
        self._unwritten = 0

    def read(self) -> None:
        """Take over what an earlier controller of this boot told."""
        try:
            first, *texts = self._path.read_text("utf-8", "surrogateescape").splitlines()
            if json.loads(first) != [self._boot_id]:
                return
        except (OSError, ValueError):
            return
        own = list(self._lines)
        self._lines.clear()
        for text in texts:
            try:
                wall, service, told, tone = json.loads(text)
                self._lines.append((float(wall), service, str(told), Tone(tone).value))
            except (ValueError, TypeError):
                continue
        self._lines.extend(own)

    def forget(self) -> None:
        """The stack is down."""
        self._path.unlink(missing_ok=True)
        self.is_gone()

    def is_gone(self) -> None:
        """Somebody removed the file: what is known is written anew."""
        self._in_file = _NEVER


def _write(path: Path, lines: Sequence[object], how: int) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
