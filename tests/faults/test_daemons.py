"""A04: a service leaves daemons behind; they end with it, and a sibling's do not."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.keeper import processes
from tests.faults.crew import Identity, cautious
from tests.support.keepers import PYTHON, WORST_SERVICE
from tests.support.processes import eventually, with_tag
from tests.support.stacks import StackUnderTest, write_stack

OF_EACH = 7
"""Itself; a child and two daemons, each a shell with its `sleep`."""
GONE_SECONDS = 4.0


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[StackUnderTest]:
    folder = tmp_path / "daemons"
    folder.mkdir()
    lines = ["name: daemons", "services:"]
    for name in ("first", "second"):
        argv = f"{PYTHON}, -I, -S, {WORST_SERVICE}, {folder}/{name}, child, daemon, bare"
        ready = f"{folder}/{name}.ready"
        lines.append(f"  {name}:")
        lines.append(
            f"    {{port: none, command: [{argv}, ready={ready}], ready: {{exec: [test, -e, {ready}]}}}}"
        )
    write_stack(folder, "\n".join(lines) + "\n")
    with cautious(folder) as made:
        made.up()
        yield made


def family(stack: StackUnderTest, name: str) -> set[Identity]:
    """All processes of a service, its daemons and what they started too; not its probes."""
    table = processes.everything()
    tagged = with_tag(f"{stack.folder}/{name}")
    roots = [found.pid for found in tagged if not found.command.startswith("test ")]
    return {(p.pid, p.start) for p in processes.tree(table, roots)}


def whole_family(stack: StackUnderTest, name: str) -> set[Identity]:
    """As `family`, when all are there."""

    def whole() -> set[Identity] | None:
        found = family(stack, name)
        return found if len(found) == OF_EACH else None

    found = eventually(whole)
    assert found is not None
    return found


def alive(family_: set[Identity]) -> list[Identity]:
    return [identity for identity in family_ if processes.is_running(identity)]


@pytest.mark.parametrize("command", ["stop", "restart"])
def test_a04_daemons_end_with_their_service_and_a_siblings_do_not(
    stack: StackUnderTest, command: str
) -> None:
    first, second = whole_family(stack, "first"), whole_family(stack, "second")
    stack.devstack(command, "first")
    eventually(lambda: not alive(first), GONE_SECONDS)
    assert set(alive(second)) == second
    if command == "restart":
        whole_family(stack, "first")
    assert stack.service("second")["state"] == "ready"


def test_a04_daemons_end_with_down(stack: StackUnderTest) -> None:
    both = whole_family(stack, "first") | whole_family(stack, "second")
    stack.devstack("down")
    assert alive(both) == []


def test_a04_a_daemon_that_outlives_its_crashed_service_is_killed_and_named(
    stack: StackUnderTest,
) -> None:
    first, second = whole_family(stack, "first"), whole_family(stack, "second")
    [pid] = stack.pids("first")
    main = (pid, processes.start_of(pid))
    assert main in first

    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(first), 10)
    assert set(alive(second)) == second
    eventually(lambda: stack.service("first")["state"] == "ready", 20)

    def left_behind() -> list[str]:
        warnings, why = stack.service("first")["warnings"], stack.devstack("why", "first").out
        return [line for line in [*warnings, *why.splitlines()] if "left behind" in line]

    named = eventually(left_behind)
    assert "sh[" in named[0] or "sleep[" in named[0]
