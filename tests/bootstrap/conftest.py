"""A package index on 127.0.0.1 that serves one small wheel, well or badly."""

import contextlib
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest

from devstack.bootstrap.index_settings import IndexSettings
from devstack.bootstrap.lockfile import Package, Wheel
from devstack.bootstrap.tool_cache import WheelTool

FILE_NAME = "small_tool-1.2.3-py3-none-any.whl"
LOCKED_INDEX = "https://locked.invalid/simple"

Behaviour = Literal[
    "well",
    "tampered",
    "truncated",
    "short",
    "breaks",
    "redirects",
    "loops",
    "fails",
    "missing",
    "trickles",
]


@dataclass
class Index:
    """What it serves, how, and what it was asked."""

    content: bytes
    port: int = 0
    behaviour: Behaviour = "well"
    as_json: bool = True
    account: str | None = None
    asked: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    failures_left: int = 0
    goes_on: threading.Event = field(default_factory=threading.Event)
    """What a server that trickles waits for after its first thousand bytes."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/simple"

    @property
    def downloads(self) -> int:
        return sum(path.startswith("/files/") for path in self.asked)


def small_wheel(extra: Callable[[zipfile.ZipFile], None] | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        program = zipfile.ZipInfo("small_tool-1.2.3.data/scripts/small")
        program.external_attr = 0o100755 << 16
        archive.writestr(program, "#!/bin/sh\necho small 1.2.3\n")
        noise = b"".join(hashlib.sha512(b"%d" % turn).digest() for turn in range(20_000))
        archive.writestr("small_tool/data.bin", noise)
        archive.writestr("small_tool/tests/unneeded.txt", "unneeded")
        if extra is not None:
            extra(archive)
    return stream.getvalue()


def package_of(content: bytes) -> Package:
    digest = hashlib.sha256(content).hexdigest()
    url = f"https://locked.invalid/files/{FILE_NAME}"
    wheel = Wheel(FILE_NAME, len(content), digest, url)
    return Package("small-tool", "1.2.3", LOCKED_INDEX, None, (wheel,))


def tool_of(package: Package) -> WheelTool:
    programs = {"small": "*.data/scripts/small"}
    return WheelTool("small", package, package.wheels[0], programs, r"/tests/")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    index: Index

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        pass

    def do_GET(self) -> None:
        self.index.asked.append(self.path)
        if (
            self.index.account is not None
            and self.headers.get("Authorization") != self.index.account
        ):
            return self._answer(401, b"")
        if self.index.failures_left > 0:
            self.index.failures_left -= 1
            return self._answer(503, b"")
        if self.path.startswith("/forbidden/"):
            return self._answer(403, b"")
        if self.path == "/simple/small-tool/":
            return self._page()
        if self.path.startswith("/files/"):
            return self._file()
        return self._answer(404, b"")

    def _page(self) -> None:
        name = "other-1.0-py3-none-any.whl" if self.index.behaviour == "missing" else FILE_NAME
        link = f"../../files/{name}"
        if self.index.as_json:
            document = {"files": [{"filename": name, "url": link, "hashes": {}}]}
            kind = "application/vnd.pypi.simple.v1+json"
            return self._answer(200, json.dumps(document).encode(), {"Content-Type": kind})
        page = f"<!DOCTYPE html><a href='{link}#sha256=00'>{name}</a>"
        return self._answer(200, page.encode(), {"Content-Type": "text/html"})

    def _file(self) -> None:
        self.index.ranges.append(self.headers.get("Range"))
        content = self.index.content
        match self.index.behaviour:
            case "well" | "missing":
                return self._ranged(content)
            case "tampered":
                return self._answer(200, content[:-1] + bytes([content[-1] ^ 1]))
            case "short":
                return self._answer(200, content[: len(content) // 2])
            case "truncated":
                return self._broken(content, 0, len(content) // 2)
            case "breaks":
                start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
                return self._broken(content, start, start + len(content) // 3)
            case "redirects":
                self.index.behaviour = "well"
                return self._answer(302, b"", {"Location": "/files/elsewhere/" + FILE_NAME})
            case "loops":
                return self._answer(302, b"", {"Location": self.path})
            case "trickles":
                return self._trickle(content)
            case "fails":
                return self._answer(404, b"")

    def _ranged(self, content: bytes) -> None:
        given = self.headers.get("Range")
        if given is None:
            return self._answer(200, content)
        start = int(given[6:].split("-")[0])
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self._answer(206, content[start:], {"Content-Range": span})

    def _trickle(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:1000])
        if self.index.goes_on.wait(20):
            with contextlib.suppress(ConnectionError):  # who gave up has hung up
                self.wfile.write(content[1000:])
        self.close_connection = True

    def _broken(self, content: bytes, start: int, end: int) -> None:
        """Announces all from `start`, sends up to `end`, hangs up."""
        self.send_response(206 if start else 200)
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:end])
        self.close_connection = True

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def index() -> Iterator[Index]:
    served = Index(small_wheel())
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"index": served}))
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def package(index: Index) -> Package:
    return package_of(index.content)


@pytest.fixture
def tool(package: Package) -> WheelTool:
    return tool_of(package)


@pytest.fixture
def from_index(index: Index) -> IndexSettings:
    return IndexSettings(index=index.url, timeout_seconds=5.0)


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


@pytest.fixture
def make_wheel() -> Callable[[Callable[[zipfile.ZipFile], None] | None], bytes]:
    return small_wheel


@pytest.fixture
def make_tool() -> Callable[[bytes], WheelTool]:
    return lambda content: tool_of(package_of(content))
