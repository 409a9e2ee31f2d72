"""One stack of three kinds of runtime: processes, fake replicas and a fake workload, through all commands."""

import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.keepers import PYTHON
from tests.support.processes import eventually, is_alive
from tests.support.stacks import StackUnderTest, running, write_stack

STACK = """\
name: mixed
gateway: {port: GATEWAY, routes: {/: web}}
services:
  web: {command: [PYTHON, -I, web.py], replicas: 2, depends_on: [ghost, cloud]}
  ghost: {run: fake, port: none, replicas: 2, script: ready_after=0.1}
  # it is ready while it lives: `up` finds all ready at once, since it starts when all others serve
  crasher: {run: fake, port: none, script: exit_after=3 code=3, depends_on: [web]}
  cloud: {run: fake-workload, replicas: 2}
"""
LIMIT_SECONDS = 60
WAITS = ("backing-off", "crash-loop")
"""What a service is that ends again and again: the second after five times in a row."""
WEB = """\
import http.server, os
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[StackUnderTest]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    folder = tmp_path / "mixed"
    folder.mkdir()
    text = STACK.replace("PYTHON", PYTHON).replace("GATEWAY", str(port))
    with running(write_stack(folder, text, {"web.py": WEB})) as stack:
        yield stack


def ready(stack: StackUnderTest, name: str) -> list[dict[str, Any]]:
    return [r for r in stack.service(name)["replicas"] if r["ready"] and not r["draining"]]


def has_replicas(stack: StackUnderTest, name: str, count: int) -> bool:
    return len(stack.service(name)["replicas"]) == count


def waits(stack: StackUnderTest, name: str) -> dict[str, Any]:
    """The service while it waits to be tried again; empty while it does not."""
    service = stack.service(name)
    return service if service["state"] in WAITS else {}


def answered_by(stack: StackUnderTest, times: int = 12) -> set[int]:
    """Pids of the replicas that answer at the gateway."""
    url = stack.gateway
    found = set()
    for _ in range(times):
        with urllib.request.urlopen(url, timeout=10) as answer:
            found.add(int(answer.read()))
    return found


def test_three_kinds_of_runtime_in_one_stack_through_scale_crash_restart_stop_and_down(
    stack: StackUnderTest,
) -> None:
    status = stack.status()
    services = {service["name"]: service for service in status["services"]}

    assert status["runtime"] == "mixed"
    assert {name: s["runtime"] for name, s in services.items()} == {
        "web": "process",
        "ghost": "fake",
        "crasher": "fake",
        "cloud": "fake-workload",
        "gateway": "process",
    }
    for name in ("web", "ghost", "cloud"):
        assert (services[name]["state"], services[name]["ready"]) == ("ready", 2), services[name]
    # a process has all three, a timer has a slot alone, what a cluster runs has none of them
    for replica in services["web"]["replicas"]:
        assert is_alive(replica["pid"])
        assert replica["slot"] in (1, 2)
        assert replica["address"].startswith("127.0.0.1:")
        assert replica["id"] == f"web.{replica['slot']}#1"
    assert [
        (r["id"], r["slot"], r["pid"], r["address"]) for r in services["ghost"]["replicas"]
    ] == [
        ("ghost.1#1", 1, None, None),
        ("ghost.2#1", 2, None, None),
    ]
    for replica in services["cloud"]["replicas"]:
        assert (replica["slot"], replica["pid"], replica["address"]) == (None, None, None)
        assert "#" not in replica["id"]
        assert replica["ready"]
    assert services["ghost"]["url"] is None
    assert answered_by(stack) == {r["pid"] for r in services["web"]["replicas"]}

    scale_each(stack)
    crash_each(stack)
    restart_each(stack)
    stop_and_start_each(stack)

    pids = stack.pids("web") + stack.pids("gateway")
    controller = stack.controller_pid
    stack.devstack("down")
    stack.assert_nothing_left()
    assert not any(is_alive(pid) for pid in [*pids, controller])


def scale_each(stack: StackUnderTest) -> None:
    """`scale` answers when as many serve, and an override is told as one."""
    for name, count in (("web", 3), ("ghost", 4), ("cloud", 5)):
        stack.devstack("scale", f"{name}={count}")
        service = stack.service(name)
        assert (service["state"], service["desired"], service["ready"]) == ("ready", count, count)
        assert (service["overridden"], service["file_replicas"]) == (True, 2)
        assert len(service["replicas"]) == count
    for name in ("web", "ghost", "cloud"):
        stack.devstack("scale", f"{name}=1")
        service = stack.service(name)
        assert (service["desired"], service["ready"]) == (1, 1)
        eventually(partial(has_replicas, stack, name, 1), LIMIT_SECONDS)
        stack.devstack("scale", f"{name}=file")
        service = stack.service(name)
        assert (service["desired"], service["ready"], service["overridden"]) == (2, 2, False)


def crash_each(stack: StackUnderTest) -> None:
    """A killed process is replaced by a new replica of its slot; a fake one that exits backs off."""
    first = ready(stack, "web")[0]
    os.kill(first["pid"], signal.SIGKILL)

    def replaced() -> dict[str, Any] | None:
        return next(
            (
                r
                for r in ready(stack, "web")
                if r["slot"] == first["slot"] and r["id"] != first["id"]
            ),
            None,
        )

    found = eventually(replaced, LIMIT_SECONDS)
    assert found is not None
    assert found["restarts"] == first["restarts"] + 1
    assert found["pid"] != first["pid"]
    service = stack.service("web")
    assert service["last_exit"]["signal"] == signal.SIGKILL
    assert "SIGKILL" in service["last_exit"]["message"]
    assert service["last_exit"]["at"] is not None
    # it is ready a moment before the gateway is told so
    eventually(lambda: answered_by(stack) == {r["pid"] for r in ready(stack, "web")}, LIMIT_SECONDS)

    crasher = eventually(lambda: waits(stack, "crasher"), LIMIT_SECONDS)
    assert (crasher["last_exit"]["code"], crasher["last_exit"]["signal"]) == (3, None)
    assert "exited with code 3" in crasher["reason"]
    assert "exited with code 3" in stack.devstack("why", "crasher").out


def restart_each(stack: StackUnderTest) -> None:
    """New replicas of a new revision, also of those that a cluster runs."""
    for name in ("web", "ghost", "cloud"):
        before = stack.service(name)
        stack.devstack("restart", name)
        after = stack.service(name)
        assert (after["state"], after["ready"]) == ("ready", 2)
        assert after["revision"] != before["revision"]
        old = {r["id"] for r in before["replicas"]}
        assert not old.intersection(r["id"] for r in ready(stack, name))
        assert {r["revision"] for r in ready(stack, name)} == {after["revision"]}


def stop_and_start_each(stack: StackUnderTest) -> None:
    for name in ("web", "ghost", "cloud"):
        stack.devstack("stop", name)
        stopped = stack.service(name)
        assert (stopped["state"], stopped["desired"], stopped["ready"]) == ("stopped", 0, 0)
        assert stopped["replicas"] == []
        stack.devstack("start", name)
        started = stack.service(name)
        assert (started["state"], started["ready"], started["overridden"]) == ("ready", 2, False)
