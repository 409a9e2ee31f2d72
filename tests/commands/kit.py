"""What tests of commands share: a program that does as it is told, clients, and waiting with a deadline."""

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from tests.support.stacks import REPOSITORY, StackUnderTest

T = TypeVar("T")

Make = Callable[..., StackUnderTest]
"""The fixture `make`: a stack file's text and further files, by keyword with `_` for the dot."""

PYTHON = sys.executable
SPEAKER = '''\
"""Answers on $PORT (or on the port of its first argument) with its word, its pid and what it is asked for."""
import http.server, json, os, signal, sys, urllib.request

WORD = "one"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        what, _, rest = self.path.strip("/").partition("/")
        body = {"word": WORD, "pid": os.getpid()}
        if what == "env":
            body["value"] = os.environ.get(rest)
        elif what == "argv":
            body["argv"] = sys.argv[1:]
        elif what == "dial":
            with urllib.request.urlopen(f"http://{rest}", timeout=5) as answer:
                body["answer"] = json.load(answer)
        elif what == "say":
            print(urllib.request.unquote(rest), flush=True)
        elif what == "exit":
            os._exit(int(rest))
        elif what == "file":
            body["found"] = os.path.exists(rest)
        self.answer(body)

    def answer(self, body):
        data = json.dumps(body).encode()
        sick = self.path == "/healthz" and os.path.exists("sick")
        self.send_response(503 if sick else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
port = int(os.environ.get("PORT") or 0)
print(f"speaker {WORD} on {port}", flush=True)
http.server.ThreadingHTTPServer((os.environ.get("HOST") or "127.0.0.1", port), Handler).serve_forever()
'''


def speaker(word: str = "one") -> str:
    """The program, with another word."""
    return SPEAKER.replace('WORD = "one"', f'WORD = "{word}"')


def eventually(check: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """The first true result of a check; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def ask(base: str, path: str = "/", **body: object) -> tuple[int, Any]:
    """One request on a connection of its own: status, and the JSON or the text of the answer."""
    where = urlsplit(base)
    assert where.hostname
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    try:
        if body:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
        else:
            connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    try:
        return answer.status, json.loads(text)
    except ValueError:
        return answer.status, text


def say(base: str, text: str) -> None:
    """Have a speaker write a line."""
    assert ask(base, f"/say/{quote(text)}")[0] == 200


@dataclass(slots=True)
class KeepAlive:
    """A client that asks again and again on one connection, and counts what went wrong."""

    url: str
    path: str = "/"
    words: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    connections: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def asking(self) -> Iterator["KeepAlive"]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()

    def _ask(self) -> None:
        where = urlsplit(self.url)
        assert where.hostname
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
        try:
            while not self._ended.is_set():
                if connection.sock is None:
                    self.connections += 1
                try:
                    connection.request("GET", self.path)
                    answer = connection.getresponse()
                    text = answer.read().decode()
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(repr(error))
                    connection.close()
                    continue
                if answer.status == 200:
                    self.words.append(text)
                else:
                    self.failures.append(f"{answer.status} {text[:200]}")
                self._ended.wait(0.005)
        finally:
            connection.close()

    def has_heard(self, text: str) -> bool:
        return any(text in word for word in self.words)


@contextlib.contextmanager
def listener(port: int, address: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A foreign listener: this very test."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((address, port))
        taken.listen()
        yield taken


def free_port(first: int = 9100) -> int:
    """The first port from there, outside the ephemeral range and devstack's own, on which nothing listens."""
    for port in range(first, 9900):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("0.0.0.0", port))
            return port
    raise AssertionError("no free port")


@contextlib.contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    """Replace a text that must be there, and put it back."""
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new))
    try:
        yield
    finally:
        path.write_text(text)


def current(stack: StackUnderTest, service: str) -> list[int]:
    """Pids of a service's replicas, those aside that are on their way out."""
    return staying(stack.service(service))


def staying(service: dict[str, Any]) -> list[int]:
    """As `current`, of a service as `status` told it: what has no callers is stopped undrained."""
    return [r["pid"] for r in service["replicas"] if not r["draining"] and r["phase"] != "stopping"]


def word_of(stack: StackUnderTest, service: str) -> str:
    """The state of a service."""
    word: str = stack.service(service)["state"]
    return word


def until_state(stack: StackUnderTest, service: str, word: str, seconds: float = 40.0) -> None:
    """Wait until `status` says a word about a service."""
    eventually(lambda: word_of(stack, service) == word, f"{service} is {word}", seconds)


def check_listing(name: str, listing: object) -> None:
    """A listing is as its JSON Schema in the repository says."""
    import jsonschema

    schema = json.loads((REPOSITORY / f"devstack/api/schemas/{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(listing)
