"""`devstack up` in the foreground: progress, logs, Ctrl-C, a closed terminal, no terminal."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.terminal import on_terminal
from tests.cli.test_commands import up_with_newer
from tests.support.processes import eventually
from tests.support.stacks import StackUnderTest, stack_in, write_stack

STUBBORN = (
    "name: shop\n"
    "services:\n"
    "  mule:\n"
    "    command: \"trap '' TERM; echo stubborn; while :; do sleep 0.1; done\"\n"
    "    port: none\n"
    "    ready: {log: stubborn}\n"
    "    stop: {grace: 3s}\n"
)


def test_progress_then_logs_then_ctrl_c_stops_everything_with_130(stack: StackUnderTest) -> None:
    with on_terminal(stack, "up") as terminal:
        terminal.see("starting shop")
        terminal.see("shop is ready")
        terminal.see("Ctrl-C stops everything")
        terminal.see("tick 3")
        pids = stack.pids("api") + stack.pids("worker")

        terminal.type_interrupt()

        assert terminal.end() == 130
        assert "stopping…" in terminal.shown
        assert "shop is stopped" in terminal.shown
        assert "Traceback" not in terminal.shown
    stack.assert_nothing_left(within=2)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert stack.devstack("status", code=3).err.startswith("stack.yaml is not running")


def test_the_stack_has_one_name_from_the_first_line_on(folder: Path) -> None:
    write_stack(
        folder, "name: corner\nservices:\n  worker: {command: exec sleep 1000, port: none}\n"
    )
    with stack_in(folder) as stack, on_terminal(stack, "up") as terminal:
        terminal.see("corner is ready")
        terminal.type_interrupt()
        assert terminal.end() == 130
        assert "starting corner" in terminal.shown
        assert "starting shop" not in terminal.shown


def test_the_screen_changes_at_least_each_second_until_all_is_ready(folder: Path) -> None:
    write_stack(
        folder,
        "services:\n  slow:\n    command: sleep 1000\n    port: none\n"
        "    ready: {exec: test -e go, interval: 0.2s}\n",
    )
    with stack_in(folder) as stack, on_terminal(stack, "up") as terminal:
        terminal.see("slow starting")
        until = time.monotonic() + 4
        while time.monotonic() < until:
            terminal.read(until)
        (folder / "go").touch()
        terminal.see("is ready")
        gaps = [b - a for a, b in zip(terminal.times, terminal.times[1:], strict=False)]
        terminal.type_interrupt()
        assert terminal.end() == 130
    assert max(gaps) < 1.0


def test_a05_the_countdown_is_shown_and_the_grace_kept(folder: Path) -> None:
    write_stack(folder, STUBBORN)
    with stack_in(folder) as stack, on_terminal(stack, "up") as terminal:
        terminal.see("shop is ready")
        began = time.monotonic()
        terminal.type_interrupt()
        terminal.see("mule.1 (killed in 3 s)")
        assert terminal.end() == 130
        # less than the ten seconds that others have
        assert 2.5 <= time.monotonic() - began <= 9
        stack.assert_nothing_left(within=2)
    told = [int(number) for number in re.findall(r"mule\.1 \(killed in (\d+) s\)", terminal.shown)]
    assert told == sorted(told, reverse=True)
    assert told[0] > told[-1]


def test_what_is_logged_while_it_stops_never_runs_into_the_countdown(folder: Path) -> None:
    write_stack(folder, STUBBORN.replace("sleep 0.1", "echo tick; sleep 0.05"))
    with stack_in(folder) as stack, on_terminal(stack, "up") as terminal:
        terminal.see("Ctrl-C stops everything")
        terminal.type_interrupt()
        terminal.see("mule.1 (killed in")
        assert terminal.end() == 130
    countdown = terminal.shown[terminal.shown.index("stopping…") :]
    lines = [line.rpartition("\x1b[2K")[2] for line in countdown.split("\n")]
    assert sum("tick" in line for line in lines) > 5
    assert not [line for line in lines if "tick" in line and "mule.1 (" in line]


def test_a05_a_second_ctrl_c_kills_everything_within_a_second(folder: Path) -> None:
    write_stack(folder, STUBBORN.replace("3s", "60s"))
    with stack_in(folder) as stack, on_terminal(stack, "up") as terminal:
        terminal.see("shop is ready")
        pid = stack.pids("mule")[0]
        terminal.type_interrupt()
        terminal.see("mule.1 (killed in")
        began = terminal.clock.now()
        terminal.type_interrupt()
        while Path(f"/proc/{pid}").exists():
            terminal.clock.wait(0.005)
            assert terminal.clock.now() - began < 1.5
        assert terminal.end() == 130
        stack.assert_nothing_left(within=2)


def test_a05_a_third_ctrl_c_leaves_at_once(folder: Path) -> None:
    write_stack(folder, STUBBORN.replace("3s", "60s"))
    with stack_in(folder) as stack:
        with on_terminal(stack, "up") as terminal:
            terminal.see("shop is ready")
            controller = stack.controller_pid
            os.kill(controller, signal.SIGSTOP)  # it answers nothing any more
            try:
                for word in ("stopping…", "killing everything…"):
                    terminal.type_interrupt()
                    terminal.see(word)
                terminal.type_interrupt()
                assert terminal.end(within=20) == 130
            finally:
                os.kill(controller, signal.SIGCONT)
        stack.assert_nothing_left(within=10)


def test_sigterm_stops_everything_with_143(stack: StackUnderTest) -> None:
    with on_terminal(stack, "up") as terminal:
        terminal.see("shop is ready")
        terminal.process.terminate()
        assert terminal.end() == 143
        assert "shop is stopped" in terminal.shown
    stack.assert_nothing_left(within=2)


def test_a_closed_terminal_stops_everything(stack: StackUnderTest) -> None:
    with on_terminal(stack, "up") as terminal:
        terminal.see("tick 2")
        terminal.hang_up()
        assert terminal.process.wait(30) == 143
    stack.assert_nothing_left(within=2)


def test_a_killed_client_stops_everything(stack: StackUnderTest) -> None:
    with on_terminal(stack, "up") as terminal:
        terminal.see("shop is ready")
        terminal.process.kill()
        stack.assert_nothing_left(within=10)


def test_a_second_up_follows_and_its_ctrl_c_only_stops_following(stack: StackUnderTest) -> None:
    stack.up()
    before = stack.pids("api")
    with on_terminal(stack, "up") as terminal:
        terminal.see("shop was running already: following it; Ctrl-C leaves it running")
        terminal.see("tick")
        terminal.type_interrupt()
        assert terminal.end() == 130
        assert "no longer following: shop runs on; devstack down stops it" in terminal.shown
    assert stack.pids("api") == before


def test_a_newer_devstack_takes_over_and_the_lease_stays_with_its_terminal(
    stack: StackUnderTest,
) -> None:
    with on_terminal(stack, "up") as terminal:
        terminal.see("shop is ready")
        before = (stack.controller_pid, stack.pids("api"))
        done = up_with_newer(stack)
        assert done.returncode == 0, done.stderr
        terminal.see("a newer devstack took over the controller")
        assert stack.controller_pid != before[0]
        assert stack.pids("api") == before[1]
        terminal.type_interrupt()
        assert terminal.end() == 130
    stack.assert_nothing_left(within=2)


def test_a_down_elsewhere_ends_the_attached_up_in_words(stack: StackUnderTest) -> None:
    with on_terminal(stack, "up") as terminal:
        terminal.see("shop is ready")
        stack.devstack("down")
        assert terminal.end() == 0
        assert "shop was stopped" in terminal.shown


def test_a_down_elsewhere_while_it_starts_is_told_as_one(folder: Path) -> None:
    write_stack(
        folder,
        "name: shop\nservices:\n"
        "  slow: {command: exec sleep 1000, port: none, ready: {exec: test -e go}}\n",
    )
    with stack_in(folder) as stack, on_terminal(stack, "up") as terminal:
        terminal.see("slow.1#1 started")
        stack.devstack("down")
        assert terminal.end() == 0
        assert "shop was stopped" in terminal.shown
        assert "shop is ready" not in terminal.shown
        assert "Ctrl-C stops everything" not in terminal.shown


def test_the_death_of_the_controller_is_told(stack: StackUnderTest) -> None:
    with on_terminal(stack, "up") as terminal:
        terminal.see("shop is ready")
        pid = stack.controller_pid
        os.kill(pid, signal.SIGKILL)
        assert terminal.end() == 1
        assert f"cannot go on: the controller (pid {pid}) ended unexpectedly" in terminal.shown
        assert "hint: " in terminal.shown
        assert "Traceback" not in terminal.shown
    stack.assert_nothing_left(within=5)


@pytest.mark.parametrize(
    "environment",
    [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"CI": "true"}],
    ids=lambda e: next(iter(e)),
)
def test_j04_plain_lines_without_escapes_where_the_terminal_is_none(
    stack: StackUnderTest, environment: dict[str, str]
) -> None:
    with on_terminal(stack, "up", **environment) as terminal:
        terminal.see("shop is ready")
        terminal.see("tick 2")
        terminal.type_interrupt()
        assert terminal.end() == 130
    assert "\x1b" not in terminal.shown
    assert "worker: " in terminal.shown


def test_j04_without_a_terminal_there_are_plain_lines_and_the_same_codes(
    stack: StackUnderTest, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = stack.start("up", stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    eventually(lambda: b"| tick 2" in out.read_bytes(), within=60)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert b"\x1b" not in out.read_bytes()
    assert b"shop is ready" in out.read_bytes()
