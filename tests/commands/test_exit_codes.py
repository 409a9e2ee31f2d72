"""Row J08: 0 fine, 1 failed, 2 usage or config, 3 no controller, 130 interrupted, 143 terminated."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.commands.kit import PYTHON, eventually, free_port, speaker, until_state
from tests.support.stacks import StackUnderTest, stack_in, write_stack

GOOD = """\
name: codes
gateway: {port: GATEWAY, routes: {/: alpha}}
services:
  alpha: {command: [PYTHON, alpha.py]}
"""
FAILING = """\
name: codes
services:
  missing: {command: [./no-such-program], port: none}
  worker: {command: sleep 1000, port: none}
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[StackUnderTest]:
    folder = tmp_path / "codes"
    folder.mkdir()
    text = GOOD.replace("PYTHON", PYTHON).replace("GATEWAY", str(free_port()))
    write_stack(folder, text, {"alpha.py": speaker()})
    with stack_in(folder) as found:
        yield found


@dataclass(slots=True)
class Terminal:
    """An attached command on a terminal of its own, and what it showed so far."""

    process: subprocess.Popen[bytes]
    descriptor: int
    shown: str = field(default="")

    def read(self) -> str:
        while select.select([self.descriptor], [], [], 0)[0]:
            try:
                piece = os.read(self.descriptor, 65536)
            except OSError:
                break
            if not piece:
                break
            self.shown += piece.decode(errors="replace")
        return self.shown

    def until(self, text: str, seconds: float = 60.0) -> None:
        eventually(lambda: text in self.read(), f"{text!r} is shown; so far: {self.shown}", seconds)

    def type(self, keys: bytes) -> None:
        os.write(self.descriptor, keys)

    def ends_with(self, seconds: float = 30.0) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < deadline, self.shown
            time.sleep(0.02)
        self.read()
        return self.process.returncode


@contextmanager
def terminal(stack: StackUnderTest, *words: str) -> Iterator[Terminal]:
    """A command as a person runs it: its own session, a terminal that sends it Ctrl-C."""
    pid, descriptor = os.openpty()
    options = {"stdin": descriptor, "stdout": descriptor, "stderr": descriptor}
    process = stack.start(
        *words, **options, start_new_session=True, preexec_fn=_take_terminal(descriptor)
    )
    os.close(descriptor)
    found = Terminal(process, pid)
    try:
        yield found
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(pid)


def _take_terminal(descriptor: int):  # type: ignore[no-untyped-def]  # a closure for preexec_fn alone
    def take() -> None:
        import fcntl
        import termios

        fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)

    return take


def test_j08_zero_when_all_is_ready_and_when_nothing_was_running(stack: StackUnderTest) -> None:
    stack.devstack("up", "-d", "--wait", code=0)
    stack.devstack("status", code=0)
    stack.devstack("down", code=0)
    stack.devstack("down", code=0)
    stack.devstack("ls", code=0)
    stack.devstack("--help", code=0)
    stack.devstack("up", "--help", code=0)
    stack.devstack("version", code=0)


def test_j08_one_when_a_service_failed_and_what_did_start_keeps_running(
    stack: StackUnderTest,
) -> None:
    (stack.folder / "stack.yaml").write_text(FAILING)

    failed = stack.devstack("up", "-d", "--wait", code=1)

    assert "missing: " in failed.err
    assert "no-such-program" in failed.err
    assert "what did start keeps running" in failed.err
    assert stack.devstack("status", code=0)
    until_state(stack, "worker", "ready")
    assert stack.service("missing")["state"] == "failed"
    stack.devstack("restart", "missing", code=1)
    stack.devstack("start", "missing", code=1)
    stack.devstack("stop", "missing", code=0)


def test_j08_one_when_time_is_up_with_the_reason(stack: StackUnderTest) -> None:
    text = 'services:\n  slow: {command: sleep 1000, ready: {exec: "echo not yet; exit 4"}}\n'
    (stack.folder / "stack.yaml").write_text(text)

    stack.devstack("up", "-d")
    eventually(lambda: "4" in (stack.service("slow")["reason"] or ""), "the probe has run")

    failed = stack.devstack("up", "-d", "--wait", "--timeout", "1", code=1)

    assert "not ready after 1 s" in failed.err, failed.text
    assert "slow is starting" in failed.err
    assert "4" in failed.err.partition("slow is starting")[2]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("upp",),
        ("up", "--fast"),
        ("up", "alpha"),
        ("scale",),
        ("scale", "alpha"),
        ("scale", "alpha=2", "alpha=3"),
        ("why",),
        ("restart",),
        ("up", "-d", "--timeout", "soon"),
        ("-f", "nowhere.yaml", "up"),
        ("-C", "nowhere", "status"),
        ("status", "extra"),
    ],
)
def test_j08_two_for_what_is_written_wrongly(tmp_path: Path, words: tuple[str, ...]) -> None:
    write_stack(tmp_path, "services: {worker: {command: sleep 1, port: none}}\n")

    refused = StackUnderTest(tmp_path, tmp_path / "run").devstack(*words, code=2)

    assert "Traceback" not in refused.err
    if words:
        assert "hint:" in refused.err
        assert refused.out == ""


def test_j08_two_for_an_invalid_file_and_nothing_is_started(stack: StackUnderTest) -> None:
    (stack.folder / "stack.yaml").write_text("services: {alpha: {comand: x}}\n")

    refused = stack.devstack("up", "-d", "--wait", code=2)

    assert "stack.yaml:1:" in refused.err
    stack.devstack("validate", code=2)
    stack.devstack("status", code=3)


def test_j08_two_outside_of_any_stack(tmp_path: Path) -> None:
    refused = StackUnderTest(tmp_path, tmp_path / "run").devstack("up", code=2)

    assert "there is no stack.yaml" in refused.err
    assert "hint:" in refused.err


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--json"),
        ("why", "alpha"),
        ("env", "alpha"),
        ("endpoints",),
        ("scale", "alpha=2"),
        ("restart", "alpha"),
        ("stop", "alpha"),
        ("start", "alpha"),
        ("reset", "alpha", "--yes"),
    ],
)
def test_j08_three_when_there_is_no_controller(tmp_path: Path, words: tuple[str, ...]) -> None:
    write_stack(tmp_path, "services: {alpha: {command: sleep 1, port: none}}\n")

    refused = StackUnderTest(tmp_path, tmp_path / "run").devstack(*words, code=3)

    assert refused.out == ""
    assert "stack.yaml is not running" in refused.err
    assert "hint: devstack up" in refused.err


def test_j08_ctrl_c_ends_an_attached_up_with_130_and_stops_everything(
    stack: StackUnderTest,
) -> None:
    with terminal(stack, "up") as attached:
        attached.until("Ctrl-C stops everything")
        attached.until("speaker one on")
        attached.type(b"\x03")

        assert attached.ends_with() == 130
    stack.assert_nothing_left(within=2.0)
    stack.devstack("status", code=3)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["term", "int"]
)
def test_j08_a_signal_ends_an_attached_up_without_a_terminal(
    stack: StackUnderTest, number: int, code: int
) -> None:
    log = stack.folder.parent / "out"
    with log.open("wb") as out:
        attached = stack.start("up", stdout=out, stderr=out)
        try:
            eventually(lambda: "Ctrl-C stops everything" in log.read_text(), "it is up", 60)
            assert "\x1b" not in log.read_text()
            attached.send_signal(number)

            assert attached.wait(30) == code
        finally:
            attached.kill()
            attached.wait()
    stack.assert_nothing_left(within=2.0)


def test_j08_ctrl_c_while_it_starts_stops_everything_too(stack: StackUnderTest) -> None:
    text = "services:\n  slow: {command: sleep 1000}\n"
    (stack.folder / "stack.yaml").write_text(text)
    with terminal(stack, "up") as attached:
        eventually(
            lambda: any("sleep 1000" in found.command for found in stack.left()), "slow has started"
        )
        attached.type(b"\x03")

        assert attached.ends_with() == 130
    stack.assert_nothing_left(within=2.0)


def test_a_second_up_follows_without_the_lease_and_its_end_stops_nothing(
    stack: StackUnderTest,
) -> None:
    stack.up()
    before = stack.pids("alpha")

    with terminal(stack, "up") as attached:
        attached.until("Ctrl-C leaves")
        attached.type(b"\x03")
        assert attached.ends_with() == 130
        assert "runs on" in attached.shown

    assert stack.pids("alpha") == before


def test_a_closed_terminal_stops_what_an_attached_up_started(stack: StackUnderTest) -> None:
    with terminal(stack, "up") as attached:
        attached.until("Ctrl-C stops everything")
        attached.process.send_signal(signal.SIGHUP)
        assert attached.ends_with() != 0
    stack.assert_nothing_left(within=3.0)


def test_a_killed_attached_up_stops_what_it_started(stack: StackUnderTest) -> None:
    with terminal(stack, "up") as attached:
        attached.until("Ctrl-C stops everything")
        attached.process.kill()
        attached.process.wait()
        stack.assert_nothing_left(within=10.0)


def test_j08_ctrl_c_of_a_following_command_is_130_and_changes_nothing(
    stack: StackUnderTest,
) -> None:
    stack.up()
    with terminal(stack, "logs", "-f") as following:
        following.until("speaker one on")
        following.type(b"\x03")
        assert following.ends_with() == 130
        assert "Traceback" not in following.shown
    assert stack.service("alpha")["state"] == "ready"
