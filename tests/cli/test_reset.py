"""`devstack reset`: what it does before anybody is asked for a yes."""

import os
import signal

from devstack.keeper.marks import runs_in
from tests.support.processes import eventually, is_alive
from tests.support.stacks import StackUnderTest


def test_a_service_that_is_no_database_is_refused_before_anybody_is_asked(
    stack: StackUnderTest,
) -> None:
    stack.up()

    service = stack.devstack("reset", "api", code=2)
    unknown = stack.devstack("reset", "apj", code=2)
    both = stack.devstack("reset", "api", "worker", "--yes", code=2)

    assert service.err.splitlines() == [
        "cannot reset api: it is a service, not a database",
        "hint: devstack restart api replaces its replicas",
    ]
    assert unknown.err.splitlines()[0] == "there is no service 'apj' (did you mean 'api'?)"
    assert [line for line in both.err.splitlines() if line.startswith("cannot")] == [
        "cannot reset api: it is a service, not a database",
        "cannot reset worker: it is a service, not a database",
    ]


def test_what_a_dead_run_left_is_ended_as_by_every_command_that_changes_something(
    stack: StackUnderTest,
) -> None:
    stack.up()
    (run,) = runs_in(stack.places.folder)
    everybody = [stack.controller_pid, run.keeper[0], run.warden[0]]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in everybody:
            os.kill(pid, number)
    eventually(lambda: not any(map(is_alive, everybody)))

    stack.devstack("reset", "api", "--yes", code=3)

    assert runs_in(stack.places.folder) == []
    stack.assert_nothing_left()
