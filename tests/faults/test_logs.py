"""D01: the last line before a crash is the one a developer needs."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.crew import cautious
from tests.support.processes import eventually
from tests.support.stacks import StackUnderTest, write_stack

LAST = "PANIC no newline"
WORDS = f"a\n{LAST}".encode()
STACK = """\
name: last-words
services:
  crasher:
    port: none
    restart: never
    command: "printf 'a\\nPANIC no newline'; exit 1"
  killed:
    port: none
    restart: never
    command: "printf 'a\\nPANIC no newline'; exec sleep 1000"
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[StackUnderTest]:
    folder = tmp_path / "last-words"
    folder.mkdir()
    write_stack(folder, STACK)
    with cautious(folder) as made:
        yield made


def written(stack: StackUnderTest, service: str) -> list[bytes]:
    files = (stack.folder / ".devstack" / "logs" / service).glob("*/*.log")
    return [file.read_bytes() for file in files]


def assert_kept(stack: StackUnderTest, service: str, told: Path) -> None:
    """Both lines, and the last one flagged: in the file, in `logs`, in the attached `up`."""
    assert written(stack, service) == [WORDS]
    assert stack.devstack("logs", "--raw", service).out == f"a\n{LAST}"
    lines = [
        json.loads(line) for line in stack.devstack("logs", "--json", service).out.splitlines()
    ]
    assert [(line["text"], line["partial"]) for line in lines] == [("a", False), (LAST, True)]
    shown = stack.devstack("logs", service).out.splitlines()
    assert [line.rsplit(" ", 1)[-1] for line in shown[:1]] == ["a"]
    assert LAST in shown[1]
    eventually(
        lambda: any(service in line and LAST in line for line in told.read_text().splitlines())
    )


def test_d01_the_last_line_without_newline_is_told_everywhere_also_after_kill_9(
    stack: StackUnderTest,
) -> None:
    told = stack.runtime / "up.txt"
    with told.open("wb") as output:
        client = stack.start("up", stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        eventually(lambda: "Ctrl-C stops everything" in told.read_text(), 30)
        assert stack.service("crasher")["last_exit"]["code"] == 1
        assert_kept(stack, "crasher", told)

        eventually(lambda: written(stack, "killed") == [WORDS])
        [killed] = stack.pids("killed")
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: stack.service("killed")["last_exit"], 10)
        assert stack.service("killed")["last_exit"]["signal"] == signal.SIGKILL
        assert_kept(stack, "killed", told)
    finally:
        client.send_signal(signal.SIGINT)
        client.wait(20)
