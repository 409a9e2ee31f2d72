"""A stack of the worst services there are, beside an NGINX and a PostgreSQL that work."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.crew import Crew, crew_of
from tests.support.keepers import PYTHON, WORST_SERVICE
from tests.support.processes import eventually, with_tag
from tests.support.stacks import StackUnderTest, write_stack

SERVICES = 10
UP_SECONDS = 60

WEB = """\
import http.server, os
class Page(http.server.BaseHTTPRequestHandler):
    wbufsize = -1  # an answer is one write: whoever kills in between cuts none in two
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
address = ("127.0.0.1", int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(address, Page).serve_forever()
"""


def write_worst(folder: Path, *, services: int = SERVICES, database: bool = True) -> Path:
    """Services that log numbered lines, each with a child and its child, and two daemons."""
    folder.mkdir()
    counts = folder / "counts"
    counts.mkdir()
    lines = ["name: worst", "gateway: {port: 18080, routes: {/: web}}", "services:"]
    lines += ["  web: {command: [" + f"{PYTHON}, -I, web.py" + "]}"]
    for number in range(services):
        # the tag is the folder: by it the oracle finds what lost all other marks
        options = ["child", "daemon", "bare", f"numbers={counts}/{number}", "rest=0.02"]
        if number % 5 == 0:
            options.append("deaf")
        argv = ", ".join([PYTHON, "-I", "-S", WORST_SERVICE, str(folder), *options])
        lines.append(f"  s{number}: {{port: none, stop: {{grace: 1s}}, command: [{argv}]}}")
    if database:
        lines += ["databases:", "  db: {engine: postgres}"]
    return write_stack(folder, "\n".join(lines) + "\n", {"web.py": WEB})


def wait_until_all_log(stack: StackUnderTest, services: int = SERVICES) -> None:
    eventually(lambda: all(acknowledged(stack, n) > 100 for n in range(services)), UP_SECONDS)


def assert_all_there(stack: StackUnderTest, services: int = SERVICES) -> Crew:
    """All that the worst services consist of runs; who looks after it."""
    wait_until_all_log(stack, services)
    # each: itself, child, grandchild (three with the folder in their command line), two daemons
    eventually(lambda: len(with_tag(str(stack.folder))) >= 4 * services)
    crew = crew_of(stack)
    names = set(crew.all.values())
    assert {"nginx", "postgres"} <= names or services < SERVICES, names
    return crew


def acknowledged(stack: StackUnderTest, number: int) -> int:
    """How many writes of a service returned."""
    path = stack.folder / "counts" / str(number)
    return int.from_bytes(path.read_bytes(), "little") if path.exists() else 0


def logged(stack: StackUnderTest, run_id: str, number: int) -> int:
    """How many of its lines are in the log of a run: each once and in order."""
    expected = 0
    folder = stack.folder / ".devstack" / "logs" / f"s{number}" / run_id
    for path in sorted(folder.glob("*.log*"), key=lambda path: (len(path.name), path.name)):
        for line in path.read_bytes().splitlines():
            assert int(line) == expected, f"{path.name}: {line!r} instead of {expected}"
            expected += 1
    return expected


def is_ready(stack: StackUnderTest) -> bool:
    """Whether all services of a stack are ready now; False too while none answers."""
    told = stack.devstack("status", "--json", code=None)
    services = json.loads(told.out)["services"] if told.code == 0 else []
    return bool(services) and all(service["state"] == "ready" for service in services)


@contextmanager
def attached(stack: StackUnderTest, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An attached `up` without a terminal, when all is ready; ended when the test has not."""
    with log.open("wb") as output:
        client = stack.start("up", stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        eventually(
            lambda: client.poll() is not None or b"Ctrl-C stops everything" in log.read_bytes(),
            UP_SECONDS,
        )
        assert client.poll() is None, log.read_text()
        yield client
    finally:
        if client.poll() is None:
            client.terminate()
            client.wait(20)
