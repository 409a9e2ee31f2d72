"""Part of the oracle of all rows: descriptors of controller and keeper are back to the base line."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults.crew import cautious, crew_of
from tests.faults.worst import WEB
from tests.support.processes import eventually
from tests.support.stacks import StackUnderTest, write_stack

ROUNDS = 3
STACK = f"""\
name: counted
gateway: {{port: 18083, routes: {{/: web}}}}
services:
  web: {{command: [{sys.executable}, -I, web.py], ready: {{http: /}}}}
  worker: {{port: none, command: [sleep, "1000"], stop: {{grace: 0.3s}}}}
  broken: {{port: none, command: [./none-such]}}
databases:
  db: {{engine: postgres}}
"""


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[StackUnderTest]:
    folder = tmp_path / "counted"
    folder.mkdir()
    write_stack(folder, STACK, {"web.py": WEB})
    with cautious(folder) as stack:
        yield stack


def open_files(stack: StackUnderTest) -> tuple[int, int]:
    """Of controller and keeper."""
    crew = crew_of(stack)
    controller, keeper = (
        len(os.listdir(f"/proc/{pid}/fd")) for pid, _ in (crew.controller, crew.keeper)
    )
    return controller, keeper


def live(stack: StackUnderTest) -> None:
    """One of each thing that opens something."""
    stack.devstack("scale", "web=3")
    for _ in range(20):
        assert httpx.get(stack.gateway, trust_env=False).status_code == 200
    stack.devstack("scale", "web=1")
    stack.devstack("restart", "worker")
    eventually(lambda: is_ready_but_broken(stack), 30)
    for service in ("worker", "web", "db"):
        os.kill(stack.pids(service)[0], signal.SIGKILL)
    stack.devstack("restart", "broken", code=1)
    follower = stack.start("logs", "-f", stdout=-3, stderr=-3)
    stack.devstack("up", "-d")
    stack.devstack("why", "web")
    follower.kill()
    follower.wait()
    eventually(lambda: is_ready_but_broken(stack), 30)


def is_ready_but_broken(stack: StackUnderTest) -> bool:
    services = {s["name"]: s for s in stack.status()["services"]}
    del services["broken"]
    return all(s["state"] == "ready" and len(s["replicas"]) == 1 for s in services.values())


def test_nothing_that_was_opened_stays_open(counted: StackUnderTest) -> None:
    counted.devstack("up", "-d", "--wait", code=1)
    eventually(lambda: is_ready_but_broken(counted), 30)
    live(counted)  # what is opened once and kept, such as threads' wake-ups, is open from here on
    base = eventually(lambda: settled(counted), 20)
    assert base is not None

    for _ in range(ROUNDS):
        live(counted)

    eventually(
        lambda: all(now <= then for now, then in zip(open_files(counted), base, strict=True)), 20
    )


def settled(stack: StackUnderTest) -> tuple[int, int] | None:
    """The counts, once they are the same twice."""
    first = open_files(stack)
    stack.status()
    return first if open_files(stack) == first else None
