"""The controller dies while something is prepared: a Go build, npm, initdb, an exec probe."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack.keeper import processes
from tests.faults.crew import assert_gone, cautious, crew_if_there, crew_of
from tests.faults.worst import is_ready
from tests.support.processes import eventually
from tests.support.stacks import StackUnderTest, copy_strangers, write_stack

READY_SECONDS = 60.0
STEPS = {
    "go build": lambda words: Path(words[0]).name == "go" and "build" in words,
    "npm ci": lambda words: "ci" in words and any("npm" in word for word in words),
    "initdb": lambda words: Path(words[0]).name == "initdb",
}
NEVER_AGAIN = ("templates",)
"""The part of the cache that would spare initdb."""

PROBED = """\
name: probed
services:
  app:
    port: none
    command: [sleep, "1000"]
    ready: {{exec: [{python}, -I, probe.py], timeout: 20s}}
"""
PROBE = """\
import pathlib, time
pathlib.Path("asked").touch()
while not pathlib.Path("ready").exists():
    time.sleep(0.01)
"""


@pytest.fixture
def strangers(tmp_path: Path) -> Iterator[StackUnderTest]:
    """A Go module, a Node app with a lock file and a PostgreSQL, with a cache that makes all steps run."""
    folder = copy_strangers(tmp_path / "strangers")
    with (folder / "exchange" / "cmd" / "api" / "main.go").open("a") as source:
        source.write(f"\nvar Never = {time.time_ns()}\n")  # what Go has not built before
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "devstack"
    cache = tmp_path / "cache" / "devstack"
    cache.mkdir(parents=True)
    for part in usual.iterdir() if usual.is_dir() else ():
        if part.name not in NEVER_AGAIN:
            (cache / part.name).symlink_to(part)
    with cautious(folder, XDG_CACHE_HOME=str(cache.parent)) as stack:
        yield stack


@pytest.fixture
def probed(tmp_path: Path) -> Iterator[StackUnderTest]:
    folder = tmp_path / "probed"
    folder.mkdir()
    write_stack(folder, PROBED.format(python=sys.executable), {"probe.py": PROBE})
    with cautious(folder) as stack:
        yield stack


def step_of(stack: StackUnderTest, is_it: Callable[[list[str]], bool]) -> int | None:
    """The pid of a step of this stack that runs now."""
    crew = crew_if_there(stack)
    for pid, _ in crew.all if crew is not None else ():
        words = processes.read_file(f"/proc/{pid}/cmdline").decode().split("\0")[:-1]
        if words and is_it(words):
            return pid
    return None


def wait_for_step(stack: StackUnderTest, is_it: Callable[[list[str]], bool]) -> int:
    found = eventually(lambda: step_of(stack, is_it), READY_SECONDS)
    assert found is not None
    return found


def start(stack: StackUnderTest, mode: str) -> subprocess.Popen[bytes]:
    words = ["up"] if mode == "attached" else ["up", "-d"]
    quiet = subprocess.DEVNULL
    return stack.start(*words, stdin=quiet, stdout=quiet, stderr=quiet)


@pytest.mark.parametrize("mode", ["attached", "detached"])
@pytest.mark.parametrize("step", STEPS)
def test_a03_the_controller_is_killed_while_something_is_prepared(
    strangers: StackUnderTest, step: str, mode: str
) -> None:
    client = start(strangers, mode)
    try:
        running = wait_for_step(strangers, STEPS[step])
        if mode == "detached":
            client.wait(20)
        crew = crew_of(strangers)
        identity = (running, processes.start_of(running))
        since = crew.kill("controller")
        if mode == "attached":
            assert_gone(strangers, crew, since)
            assert client.wait(20) == 1
            return
        eventually(lambda: not processes.is_running(identity))
        eventually(lambda: is_ready(strangers), READY_SECONDS)
        assert crew_of(strangers).run_id == crew.run_id
        assert crew_of(strangers).controller != crew.controller
    finally:
        if client.poll() is None:
            client.send_signal(signal.SIGTERM)
        client.wait(20)


@pytest.mark.parametrize("mode", ["attached", "detached"])
def test_a03_the_controller_is_killed_during_an_exec_probe(
    probed: StackUnderTest, mode: str
) -> None:
    client = start(probed, mode)
    try:
        eventually((probed.folder / "asked").exists, 20)
        probe = wait_for_step(probed, lambda words: words[-1] == "probe.py")
        crew = crew_of(probed)
        identity = (probe, processes.start_of(probe))
        replica = probed.service("app")["replicas"][0]
        since = crew.kill("controller")
        if mode == "attached":
            assert_gone(probed, crew, since)
            assert client.wait(20) == 1
            return
        eventually(lambda: not processes.is_running(identity))
        (probed.folder / "ready").touch()
        eventually(lambda: is_ready(probed), 20)
        again = probed.service("app")["replicas"][0]
        assert (again["id"], again["pid"]) == (replica["id"], replica["pid"])
    finally:
        if client.poll() is None:
            client.send_signal(signal.SIGTERM)
        client.wait(20)


def test_a03_what_a_killed_step_made_is_not_taken_for_whole(strangers: StackUnderTest) -> None:
    client = start(strangers, "attached")
    wait_for_step(strangers, STEPS["initdb"])
    crew = crew_of(strangers)
    since = crew.kill("controller")
    assert_gone(strangers, crew, since)
    client.wait(20)
    assert not (strangers.folder / ".devstack" / "data" / "ledger-db").exists()
    strangers.up()
    assert strangers.service("ledger-db")["state"] == "ready"
