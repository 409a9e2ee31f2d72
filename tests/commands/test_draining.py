"""A replica that leaves answers what it was asked before it is told to end.

The service is the worst there is: it ends at once on TERM, whoever it is answering. So nothing but the
drain keeps a request that is under way; a GET that lost its replica would be answered by another one,
and so who answers is looked at too.
"""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.commands.kit import PYTHON, KeepAlive, current, eventually, free_port
from tests.support.processes import is_alive
from tests.support.stacks import StackUnderTest, running, write_stack

BLUNT = '''\
"""Answers who it is: at once, or (/held) when the file `go` is there. Ends at once on TERM."""
import http.server, json, os, pathlib, signal, threading, time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/held":
            pathlib.Path("held", f"{os.getpid()}-{threading.get_native_id()}").touch()
            while not os.path.exists("go"):
                time.sleep(0.02)
        data = json.dumps({"pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer.request_queue_size = 64
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
'''
STACK = f"""\
name: blunt
gateway: {{port: GATEWAY, routes: {{/: blunt}}}}
services:
  blunt:
    command: [{PYTHON}, -I, blunt.py]
    replicas: 3
    stop: {{grace: 60s}}
"""


@dataclass(slots=True)
class Caller:
    """Asks before, holds one request open, and asks after it was answered; on one connection or three."""

    url: str
    method: str
    keeps: bool
    answers: list[int] = field(default_factory=list)
    """Pids that answered."""
    failure: str = ""

    @contextmanager
    def calling(self) -> Iterator[None]:
        thread = threading.Thread(target=self._call)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _call(self) -> None:
        where = urlsplit(self.url)
        assert where.hostname
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
        try:
            for path in ("/before", "/held", "/after"):
                body = b"x" * 100 if self.method == "POST" else None
                headers = {} if self.keeps else {"Connection": "close"}
                connection.request(self.method, path, body, headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    self.failure = f"{path}: {answer.status} {text[:200]!r}"
                    return
                self.answers.append(json.loads(text)["pid"])
        except (OSError, http.client.HTTPException) as error:
            self.failure = repr(error)
        finally:
            connection.close()


@pytest.fixture
def blunt(tmp_path: Path) -> Iterator[StackUnderTest]:
    folder = tmp_path / "blunt"
    (folder / "held").mkdir(parents=True)
    text = STACK.replace("GATEWAY", str(free_port()))
    with running(write_stack(folder, text, {"blunt.py": BLUNT})) as stack:
        yield stack


@pytest.mark.parametrize("words", [("restart", "blunt"), ("scale", "blunt=1")])
def test_no_request_is_lost_when_a_service_that_cuts_them_on_term_is_replaced_or_scaled_down(
    blunt: StackUnderTest, words: tuple[str, str]
) -> None:
    before = set(current(blunt, "blunt"))
    entries = (blunt.gateway, blunt.service("blunt")["url"])
    callers = [
        Caller(url, method, keeps)
        for url in entries
        for method in ("GET", "POST")
        for keeps in (True, False)
        for _ in range(4)  # each replica holds some, whatever turns the quick ones take between
    ]
    held = blunt.folder / "held"
    quick = [KeepAlive(url) for url in entries]
    with ExitStack() as asking:
        for client in quick:
            asking.enter_context(client.asking())
        for caller in callers:
            asking.enter_context(caller.calling())
        # whatever fails in here: nobody goes on waiting
        asking.callback((blunt.folder / "go").touch)
        eventually(lambda: len(list(held.iterdir())) == len(callers), "all requests are held")
        holding = {int(path.name.partition("-")[0]) for path in held.iterdir()}
        assert holding == before

        blunt.devstack(*words)

        leaving = before - set(current(blunt, "blunt"))
        assert len(leaving) == {"restart": 3, "scale": 2}[words[0]]
        assert all(map(is_alive, leaving)), "ended while it was answering"
    eventually(lambda: not any(map(is_alive, leaving)), "who left has ended")

    assert [caller.failure for caller in callers if caller.failure] == []
    assert {caller.answers[1] for caller in callers} == before
    assert leaving.isdisjoint(caller.answers[2] for caller in callers)
    assert [client.failures for client in quick] == [[], []]
    assert all(client.words and client.connections == 1 for client in quick)
