"""B05: a dependency that never gets ready or fails."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.crew import cautious
from tests.support.stacks import StackUnderTest, write_stack

SICK = """\
import http.server, os
class Sick(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(500, "no database")
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Sick).serve_forever()
"""
STACK = """\
name: held
services:
  dependency:
    {dependency}
  dependent:
    port: none
    depends_on: [dependency]
    command: [touch, started]
  after:
    port: none
    depends_on: [dependent]
    command: [touch, started]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "held"
    made.mkdir()
    return made


@pytest.fixture
def held(folder: Path) -> Iterator[StackUnderTest]:
    with cautious(folder) as stack:
        yield stack


def assert_waiting(stack: StackUnderTest) -> None:
    """Dependents were not tried, and say what they wait for."""
    for name, waits_for in (("dependent", "dependency"), ("after", "dependent")):
        service = stack.service(name)
        assert service["state"] == "waiting", service
        assert waits_for in service["reason"], service
        assert service["replicas"] == []
        assert service["last_exit"] is None
        assert waits_for in stack.devstack("why", name).out
    assert not (stack.folder / "started").exists()


def test_b05_a_dependency_that_never_is_ready_holds_its_dependents_and_up_names_the_last_error(
    held: StackUnderTest,
) -> None:
    dependency = f"command: [{sys.executable}, -I, sick.py]\n    ready: {{http: /healthz}}"
    write_stack(held.folder, STACK.format(dependency=dependency), {"sick.py": SICK})
    began = time.monotonic()
    told = held.devstack("up", "-d", "--wait", "--timeout", "8", code=1)
    assert 7 < time.monotonic() - began < 30
    [line] = [line for line in told.err.splitlines() if line.startswith("dependency is ")]
    assert "500" in line, told.text
    assert "devstack down stops it" in told.err
    assert_waiting(held)
    assert held.service("dependency")["state"] == "starting"
    assert "500" in held.service("dependency")["reason"]


def test_b05_a_dependency_that_fails_ends_up_at_once_with_code_and_last_lines(
    held: StackUnderTest,
) -> None:
    dependency = "port: none\n    restart: never\n    command: echo no such table; exit 3"
    write_stack(held.folder, STACK.format(dependency=f"{dependency}"))
    began = time.monotonic()
    told = held.devstack("up", "-d", "--wait", code=1)
    assert time.monotonic() - began < 20, "it does not wait for what cannot come"
    assert "dependency" in told.err
    assert "3" in told.err
    assert "no such table" in told.err, told.text
    assert_waiting(held)


def test_b05_a_dependency_in_a_crash_loop_is_for_good(held: StackUnderTest) -> None:
    dependency = "port: none\n    command: echo cannot bind; exit 7"
    write_stack(held.folder, STACK.format(dependency=dependency))
    told = held.devstack("up", "-d", "--wait", "--timeout", "60", code=1)
    assert "cannot bind" in told.err, told.text
    assert "7" in told.err
    assert held.service("dependency")["state"] == "crash-loop"
    assert_waiting(held)
