"""A `devstack up` from its request to its end: what arrives, what is typed, what is shown.

    applying ──▶ settling ──▶ following (logs)          -d ends after applying, --wait after settling
        └───────────┴─────────────┴──▶ stopping ──▶ end      Ctrl-C, SIGTERM, a closed terminal

One loop over the connection, signals and log files. With the lease the stack ends with this process:
the first signal asks for it, the second kills, the third leaves. Without it a signal only leaves.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from devstack.api.client import Answer, Client, Lost, Silent, connect, ready
from devstack.api.locate import Places
from devstack.cli import talk
from devstack.cli.down import stopping_text
from devstack.cli.screen import Screen, SilentScreen, told_of
from devstack.logs.follow import LONGEST_WAIT, SHORTEST_WAIT, Follower
from devstack.logs.query import Query
from devstack.logs.reader import LogStore
from devstack.logs.render import Renderer

TICK_SECONDS = 0.2
RECONNECT_SECONDS = 15.0
_LINES_AT_ONCE = 256
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GONE = (errno.EIO, errno.EPIPE)


class Session:
    """See the module's docstring."""

    def __init__(
        self,
        client: Client,
        places: Places,
        screen: Screen,
        *,
        name: str,
        detached: bool,
        waits: bool,
        timeout: float,
    ) -> None:
        self._client = client
        self._places = places
        self._screen = screen
        self._name = name
        self._detached = detached
        self._waits = waits
        self._timeout = timeout
        self._requests: dict[object, Callable[[Answer], None]] = {}
        self._exit_code: int | None = None
        self._has_lease: bool | None = False if detached else None
        """Whether the stack ends with this process; None until that is told."""
        self._summary: Mapping[str, Any] = {}
        self._signals: list[int] = []
        self._times_asked = 0
        self._code_when_stopped = talk.INTERRUPTED
        self._is_settled = False
        self._pending: list[tuple[str, str, str]] = []
        self._logs: str | None = None
        self._follower: Follower | None = None
        self._renderer = Renderer(colour=not talk.is_plain(sys.stdout))
        self._log_wait = SHORTEST_WAIT
        self._began_ns = time.time_ns()
        self._began = time.monotonic()

    def run(self, request: Mapping[str, object]) -> int:
        """Send `up` and stay as long as it takes; the exit code."""
        woken, waker = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(woken, False)
        before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        previous = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._client.wait_patiently(self._tell_silence)
        try:
            self._ask("follow", self._on_follow_end)
            self._ask("up", self._on_applied, **request, lease=not self._detached)
            while self._exit_code is None:
                self._guard(lambda: self._turn(woken))
            return self._exit_code
        finally:
            self._guard(self._screen.settle)
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(woken)
            os.close(waker)
            if self._follower is not None:
                self._follower.close()

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _guard(self, work: Callable[[], None]) -> None:
        """Do something that writes; a terminal or pipe that is gone counts as a closed terminal."""
        try:
            work()
        except OSError as exc:
            if exc.errno not in _GONE:
                raise
            self._screen = SilentScreen()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (sys.stdout, sys.stderr):
                os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            if not self._times_asked:
                self._signals.append(signal.SIGHUP)

    def _turn(self, woken: int) -> None:
        waits = self._log_wait if self._follower is not None else TICK_SECONDS
        readable = ready((self._client.fileno(), woken), min(waits, TICK_SECONDS))
        if woken in readable:
            os.read(woken, 1024)
        if self._client.fileno() in readable:
            self._read()
        elif self._is_waiting():
            self._mind_silence()
        while self._signals and self._exit_code is None and self._knows_what_a_signal_means():
            self._on_signal(self._signals.pop(0))
        if self._follower is not None and self._exit_code is None:
            self._show_logs(self._follower)
        self._screen.tick()

    # ── the connection ────────────────────────────────────────────────────────────────────────

    def _ask(self, do: str, on_end: Callable[[Answer], None], **arguments: object) -> None:
        self._requests[self._client.send(do, **arguments)] = on_end

    def _read(self) -> None:
        try:
            messages = self._client.arrived()
        except Lost:
            self._on_lost()
            return
        for message in messages:
            if "left" in message:
                self._reconnect()
                return
            data = message.get("data")
            if isinstance(data, dict):
                self._on_data(data)
            if "end" in message:
                on_end = self._requests.pop(message.get("id"), None)
                if on_end is not None and self._exit_code is None:
                    on_end(Answer(message["end"]))

    def _is_waiting(self) -> bool:
        """Whether an answer is due; who only follows is told what there is to tell."""
        return any(on_end != self._on_follow_end for on_end in self._requests.values())

    def _mind_silence(self) -> None:
        """Whoever holds the lease waits on: the stack ends with this process."""
        try:
            self._client.mind_silence()
        except Lost:
            self._on_lost()
        except Silent:
            if not self._has_lease:
                raise

    def _tell_silence(self, silent: Silent) -> None:
        self._screen.say(f"{silent}: waiting for it")
        self._screen.say(f"hint: {silent.hint}")

    def _on_lost(self) -> None:
        if self._times_asked:
            self._exit_code = self._code_when_stopped
            return
        self._screen.settle()
        raise talk.Failed(
            f"cannot go on: the controller (pid {self._client.greet().pid}) ended unexpectedly"
            + (", and the stack with it" if self._has_lease else ""),
            f"its last words are in {self._places.controller_log}; devstack status tells what runs",
        )

    def _reconnect(self) -> None:
        """A newer controller took over: hold the lease there."""
        self._client.close()
        self._requests.clear()
        deadline = time.monotonic() + RECONNECT_SECONDS
        while time.monotonic() < deadline:
            client = connect(self._places)
            if client is None:
                time.sleep(0.02)  # the socket does not exist yet: nothing to await
                continue
            self._client = client
            client.wait_patiently(self._tell_silence)
            if client.greet().has_lease:
                break
            self._ask("follow", self._on_follow_end)
            if self._has_lease:
                self._ask("lease", lambda _: None)
            if not self._is_settled:
                self._ask("wait", self._on_settled, timeout=self._timeout)
            self._screen.say("a newer devstack took over the controller")
            return
        raise talk.Failed(
            "cannot go on: no controller took over", "devstack status tells what runs"
        )

    def _on_data(self, data: Mapping[str, Any]) -> None:
        if "told" in data:
            self._screen.told(told_of(data["told"]))
        if "lease" in data:
            self._has_lease = bool(data["lease"])
            self._logs = str(data["logs"])
        if "counts" in data and not self._times_asked:
            counts = data["counts"]
            self._pending = [(str(n), str(s), str(r)) for n, s, r in counts["pending"]]
            self._screen.counts(counts["settled"], counts["total"], self._pending)
        if "stopping" in data:
            self._screen.stopping(stopping_text(data["stopping"]) + _again(self._times_asked))
        if "summary" in data and not self._times_asked:
            self._summary = data["summary"]
            self._name = self._summary["stack"] or self._name

    # ── how far it is ─────────────────────────────────────────────────────────────────────────

    def _on_applied(self, answer: Answer) -> None:
        if self._times_asked:
            return
        if answer.exit_code != talk.FINE:
            self._end(answer.exit_code, answer.lines)
        elif self._detached and not self._waits:
            self._end(talk.FINE, answer.lines or [f"{self._name} is starting: devstack status"])
        else:
            for line in answer.lines:
                self._screen.say(line)
            if not self._detached and not self._has_lease:
                self._screen.say(
                    f"{self._name} was running already: following it; Ctrl-C leaves it running"
                )
            self._ask("wait", self._on_settled, timeout=self._timeout)

    def _show_summary(self) -> None:
        for note in [*self._summary.get("notes", ()), *self._summary.get("warnings", ())]:
            self._screen.say(f"note: {note}")
        for name in self._summary.get("stopped", ()):
            self._screen.say(f"note: {name} is stopped by hand: devstack start {name}")
        if self._summary.get("gateway"):
            talk.data([f"{self._name} answers on {self._summary['gateway']}"])

    def _on_settled(self, answer: Answer) -> None:
        if self._times_asked:
            return
        self._is_settled = True
        if self._summary.get("is_closing"):
            if self._detached:
                self._end(answer.exit_code, answer.lines)
            return  # in the foreground: when the stack has ended, which is followed
        seconds = time.monotonic() - self._began
        if answer.exit_code == talk.FINE:
            lines = [*answer.lines] or [f"{self._name} is ready ({seconds:.1f} s)"]
        else:
            lines = [*answer.lines]
        self._screen.settle()
        if self._detached:
            self._show_summary()
            if answer.exit_code != talk.FINE:
                lines.append("hint: what did start keeps running; devstack down stops it")
            self._end(answer.exit_code, lines)
            return
        # what was written while it started first: the URL is looked for at the end
        assert self._logs is not None
        query = Query(since_ns=self._began_ns, streams="run")
        self._follower = Follower(LogStore(self._logs), query)
        self._write_logs(self._follower.history())
        self._show_summary()
        for line in lines:
            self._screen.say(line)
        self._screen.say(
            "Ctrl-C stops everything" if self._has_lease else "Ctrl-C leaves everything running"
        )

    def _on_follow_end(self, _: Answer) -> None:
        if not self._times_asked and not self._detached:
            self._end(talk.FINE, [f"{self._name} was stopped"])

    def _end(self, code: int, lines: Sequence[str]) -> None:
        self._screen.settle()
        talk.finish(code, lines)
        self._exit_code = code

    # ── logs ──────────────────────────────────────────────────────────────────────────────────

    def _show_logs(self, follower: Follower) -> None:
        found = self._write_logs(follower.poll())
        self._log_wait = SHORTEST_WAIT if found else min(self._log_wait * 1.5, LONGEST_WAIT)

    def _write_logs(self, items: Any) -> bool:
        found = False
        lines: list[str] = []
        for item in items:
            found = True
            lines.append(self._renderer.render(item))
            if len(lines) >= _LINES_AT_ONCE:
                self._screen.data(lines)
                lines.clear()
        if lines:
            self._screen.data(lines)
        return found

    # ── the end ───────────────────────────────────────────────────────────────────────────────

    def _knows_what_a_signal_means(self) -> bool:
        """The lease is told at once: the first signal waits for that, a second one does not."""
        return self._has_lease is not None or len(self._signals) > 1

    def _on_signal(self, number: int) -> None:
        code = talk.INTERRUPTED if number == signal.SIGINT else talk.TERMINATED
        if number == signal.SIGHUP:
            self._screen = SilentScreen()
        if not self._has_lease:
            # nothing is sent: an apply that is under way goes on
            known = f"{self._name} runs on; devstack down stops it"
            unknown = f"devstack status tells whether {self._name} runs on"
            self._screen.settle()
            self._screen.say(
                f"no longer following: {unknown if self._has_lease is None else known}"
            )
            self._exit_code = code
            return
        self._times_asked += 1
        if self._times_asked == 1:
            self._code_when_stopped = code
            self._screen.stopping("stopping…" + _again(1))
            self._try_ask("down", self._on_down)
        elif self._times_asked == 2:
            self._screen.stopping("killing everything…")
            self._try_ask("kill", lambda _: None)
        else:
            self._exit_code = self._code_when_stopped

    def _try_ask(self, do: str, on_end: Callable[[Answer], None]) -> None:
        try:
            self._ask(do, on_end)
        except Lost:
            self._on_lost()

    def _on_down(self, answer: Answer) -> None:
        self._screen.settle()
        if answer.exit_code == talk.FINE:
            self._screen.say(f"{self._name} is stopped")
        else:
            talk.say(*answer.lines)
        self._exit_code = self._code_when_stopped


def _again(times: int) -> str:
    return " · Ctrl-C again kills everything at once" if times == 1 else ""
