"""Commands and a controller that was stopped or hangs: they say so after five seconds, and `down` ends it."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from devstack.keeper.marks import runs_in
from tests.support.processes import eventually
from tests.support.stacks import StackUnderTest

SILENT_SECONDS = 5.0
MARGIN = 8.0
"""For a slow machine."""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing until the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def hanging(stack: StackUnderTest) -> Iterator[None]:
    """A controller that waits for ever for what it writes on, as for a file system that hangs."""
    snapshot = stack.folder / ".devstack" / "state" / "snapshot.tmp"
    os.mkfifo(snapshot)
    nowhere = subprocess.DEVNULL
    with stack.start("scale", "api=2", stdout=nowhere, stderr=subprocess.PIPE) as scaling:
        try:
            # it was reached: a controller that is only slow would not be silent for so long
            assert scaling.stderr is not None
            assert b"does not answer: waiting for it" in scaling.stderr.readline()
            yield
        finally:
            scaling.kill()
            snapshot.unlink()


def fill_queue(path: str, waiting: contextlib.ExitStack) -> None:
    """Connect until nobody else can."""
    with contextlib.suppress(BlockingIOError):
        while True:
            one = waiting.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            one.connect(path)


def test_down_wakes_a_controller_that_was_stopped_and_all_ends_in_order(
    stack: StackUnderTest,
) -> None:
    stack.up()
    pid = stack.controller_pid

    with stopped(pid):
        down = stack.devstack("down", seconds=60)
        stack.assert_nothing_left()

    assert down.err.splitlines()[0] == (
        f"the controller (pid {pid}) does not answer: it is woken, "
        "and ended with all it runs if it still does not"
    )
    assert "ending it" not in down.err


def test_down_wakes_a_controller_for_which_too_many_wait_already(stack: StackUnderTest) -> None:
    """As after `watch devstack status` beside one that was stopped."""
    stack.up()
    pid = stack.controller_pid

    with stopped(pid), contextlib.ExitStack() as waiting:
        fill_queue(stack.places.control_socket, waiting)
        down = stack.devstack("down", seconds=60)
        stack.assert_nothing_left()

    assert "it is woken" in down.err
    assert "ending it" not in down.err


def test_down_ends_a_controller_that_hangs_and_all_it_runs(stack: StackUnderTest) -> None:
    stack.up()
    pid = stack.controller_pid

    with hanging(stack):
        down = stack.devstack("down", seconds=60)

    silent = f"the controller (pid {pid}) does not answer: "
    assert [line for line in down.err.splitlines() if line.startswith(silent)] == [
        f"{silent}it is woken, and ended with all it runs if it still does not",
        f"{silent}ending it and all it runs",
    ]
    stack.assert_nothing_left()
    assert "nothing was running" not in down.err
    stack.up()
    assert len(stack.pids("api")) == 1, "what was wished ends with down"
    assert stack.controller_pid != pid


def test_down_ends_a_keeper_that_was_stopped_and_has_no_controller(stack: StackUnderTest) -> None:
    stack.up()
    controller = stack.controller_pid
    (run,) = runs_in(stack.places.folder)

    with stopped(run.keeper[0]):
        os.kill(controller, signal.SIGKILL)
        stack.devstack("down", seconds=60)

    stack.assert_nothing_left()


def test_what_changes_something_says_that_it_waits_and_goes_on_when_it_is_answered(
    stack: StackUnderTest,
) -> None:
    stack.up()
    pid = stack.controller_pid

    pipe = subprocess.PIPE
    began = time.monotonic()
    with stopped(pid), stack.start("scale", "api=2", stdout=pipe, stderr=pipe) as scaling:
        assert scaling.stderr is not None
        first = scaling.stderr.readline().decode()
        waited = time.monotonic() - began
        os.kill(pid, signal.SIGCONT)
        out, _ = scaling.communicate(timeout=60)

    assert first == f"the controller (pid {pid}) does not answer: waiting for it\n"
    assert SILENT_SECONDS <= waited < SILENT_SECONDS + MARGIN
    assert (scaling.returncode, out) == (0, b"api: 2 serving\n")


def test_what_changes_something_ends_with_1_where_no_answer_comes(stack: StackUnderTest) -> None:
    stack.up()
    pid = stack.controller_pid

    with stopped(pid):
        asked = [
            stack.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for words in (
                ["scale", "api=1"],
                ["restart", "api"],
                ["stop", "api"],
                ["start", "api"],
                ["up", "-d"],
            )
        ]
        ends = [(*asking.communicate(timeout=60), asking.returncode) for asking in asked]

    for out, err, code in ends:
        assert (out, code) == (b"", 1)
        assert err.decode().splitlines() == [
            f"the controller (pid {pid}) does not answer: waiting for it",
            (hint := f"hint: kill -CONT {pid} lets it go on if it was stopped; ")
            + "devstack down ends it and all it runs",
            f"the controller (pid {pid}) does not answer",
            hint + "devstack down ends it and all it runs",
        ]


def test_an_attached_up_whose_controller_was_stopped_says_so_while_it_stops(
    stack: StackUnderTest,
) -> None:
    told = stack.folder.parent / "told"
    with told.open("wb") as file, stack.start("up", stdout=file, stderr=file) as attached:
        try:
            eventually(lambda: "Ctrl-C stops everything\n" in told.read_text(), 60)
            with stopped(stack.controller_pid):
                attached.send_signal(signal.SIGINT)
                eventually(lambda: "does not answer: waiting for it\n" in told.read_text(), 15)
            assert attached.wait(60) == 130
        finally:
            attached.kill()

    assert "shop is stopped\n" in told.read_text()
