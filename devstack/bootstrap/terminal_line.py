"""One line on the terminal that says what is going on, alive at least each second.

Used before any package is there. Without a terminal each new phase is a plain line.
"""

import shutil
import threading
import time
from types import TracebackType
from typing import Self, TextIO

_REDRAW_SECONDS = 0.25
_MARKS = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_MARKS = "|/-\\"


class TerminalLine:
    """Redraws `phase` and its detail, with the seconds since the start, until it is closed."""

    def __init__(self, stream: TextIO, subject: str) -> None:
        self._stream = stream
        self._subject = subject
        self._phase = "starting"
        self._detail = ""
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._is_terminal = stream.isatty()
        self._marks = _MARKS if "utf" in (stream.encoding or "").lower() else _PLAIN_MARKS
        self._thread = threading.Thread(target=self._redraw, daemon=True)

    def __enter__(self) -> Self:
        if self._is_terminal:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._is_terminal:
            self._thread.join()
            self._write("\r\x1b[K")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def show(self, phase: str, detail: str = "") -> None:
        with self._lock:
            is_new = phase != self._phase
            self._phase, self._detail = phase, detail
        if is_new and not self._is_terminal:
            self._write(f"{self._subject}: {phase}\n")

    def _redraw(self) -> None:
        turn = 0
        while True:
            with self._lock:
                text = " ".join(part for part in (self._phase, self._detail) if part)
            mark = self._marks[turn % len(self._marks)]
            line = f"{mark} {self._subject}: {text} ({self.seconds:.0f} s)"
            width = max(shutil.get_terminal_size().columns - 1, 20)
            self._write(f"\r\x1b[K{line[:width]}")
            turn += 1
            if self._ended.wait(_REDRAW_SECONDS):
                return

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
