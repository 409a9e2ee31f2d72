"""A command on a terminal of its own (a pty), with everything it showed."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cli.wakeful import WakefulClock
from tests.support.stacks import StackUnderTest

PATIENCE = 40.0
_LOOK_SECONDS = 0.2


class Terminal:
    """What a person sees and types."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master: int | None = master
        self.shown = ""
        self.clock = WakefulClock()
        self.times: list[float] = []
        """When something changed on the screen, by the clock."""

    def see(self, text: str, within: float = PATIENCE) -> None:
        """Wait until a text was shown."""
        deadline = time.monotonic() + within
        while text not in self.shown:
            assert self.read(deadline), f"'{text}' was not shown:\n{self.shown}"

    def read(self, deadline: float) -> bool:
        """Take what is shown; false at the end or when time is up."""
        if self._master is None:
            return False
        while not self.clock.wait(_LOOK_SECONDS, self._master):
            if time.monotonic() > deadline:
                return False
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:
            return False
        if data:
            self.times.append(self.clock.now())
            self.shown += data.decode("utf-8", "replace")
        return bool(data)

    def type_interrupt(self) -> None:
        """Ctrl-C."""
        assert self._master is not None
        os.write(self._master, b"\x03")

    def hang_up(self) -> None:
        """The window is closed."""
        if self._master is not None:
            os.close(self._master)
            self._master = None

    def assert_as_before(self, modes: list[object]) -> None:
        """Nothing is left in the terminal by a command that was not killed."""
        if self._master is None or self.process.poll() in (None, -signal.SIGKILL):
            return
        assert termios.tcgetattr(self._master) == modes
        hidden, seen = self.shown.rfind("\x1b[?25l"), self.shown.rfind("\x1b[?25h")
        assert hidden <= seen, "the cursor is left hidden"

    def end(self, within: float = PATIENCE) -> int:
        """Everything that is still shown, then the exit code."""
        deadline = time.monotonic() + within
        while self.read(deadline):
            pass
        return self.process.wait(max(1.0, deadline - time.monotonic()))


@contextmanager
def on_terminal(stack: StackUnderTest, *words: str, **environment: str) -> Iterator[Terminal]:
    """Start a command there, in a session of its own; killed at the end where it still runs.

    Whoever ends by itself leaves the terminal as it was: its modes, and the cursor to be seen.
    """
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    env = {k: v for k, v in stack.environment.items() if k not in ("NO_COLOR", "CI")}
    process = subprocess.Popen(
        stack.command(*words),
        cwd=stack.folder,
        env=env | {"TERM": "xterm-256color"} | environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
        terminal.assert_as_before(before)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        terminal.hang_up()
