"""Small replicas and clients for tests of the gateway, on asyncio streams."""

import asyncio
import base64
import contextlib
import hashlib
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

DEADLINE_SECONDS = 30.0


_GIVEN_OUT: set[int] = set()


def free_port() -> int:
    """A port outside the ephemeral range on which nothing listens, and each only once."""
    while True:
        port = random.randrange(20000, 32000)
        if port in _GIVEN_OUT:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            _GIVEN_OUT.add(port)
            return port


def free_ports(count: int) -> tuple[int, ...]:
    return tuple(free_port() for _ in range(count))


async def eventually(check: Callable[[], bool], what: str = "") -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    while not check():
        assert asyncio.get_running_loop().time() < deadline, what or "not in time"
        await asyncio.sleep(0.01)


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    return first, {name.lower(): value.strip() for name, _, value in pairs}


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body
    return await reader.readexactly(int(headers.get("content-length", 0)))


class Manners(Enum):
    """How a replica treats its connections."""

    KEEPS = auto()
    CLOSES_AFTER_ANSWER = auto()
    """Closes a kept connection without having announced it."""
    RESETS_AFTER_REQUEST = auto()
    """Reads a request and ends the connection without an answer."""


@dataclass
class Replica:
    """Answers every request with its name; echoes on an upgraded connection."""

    name: str
    port: int
    address: str = "127.0.0.1"
    delay_seconds: float = 0.0
    manners: Manners = Manners.KEEPS
    headers: str = ""
    seen: list[Request] = field(default_factory=list)
    first_bytes: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, self.address, self.port, limit=1 << 22
        )

    async def stop(self) -> None:
        """As a SIGKILL does: nothing listens and every connection is reset."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                first, headers = await read_head(reader)
                method, target, _ = first.split(" ", 2)
                if headers.get("upgrade") == "websocket":
                    await self._echo(headers, reader, writer)
                    return
                self.first_bytes.set()
                body = await read_body(reader, headers)
                self.seen.append(Request(method, target, headers, body))
                if self.manners is Manners.RESETS_AFTER_REQUEST:
                    writer.transport.abort()
                    return
                await asyncio.sleep(self.delay_seconds)
                text = f"{self.name}\n".encode()
                writer.write(
                    f"HTTP/1.1 200 OK\r\nServer: replica\r\n{self.headers}"
                    f"Content-Length: {len(text)}\r\n\r\n".encode()
                    + text
                )
                await writer.drain()
                if self.manners is Manners.CLOSES_AFTER_ANSWER:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()

    async def _echo(
        self,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def replicas(*started: Replica) -> AsyncIterator[None]:
    try:
        for each in started:
            await each.start()
        yield
    finally:
        for each in started:
            await each.stop()


@dataclass
class Client:
    """One connection, kept; never repeats a request."""

    address: str
    port: int
    host: str = ""
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> "Client":
        self._reader, self._writer = await asyncio.open_connection(
            self.address, self.port, limit=1 << 22
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._writer is not None
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def ask(
        self,
        target: str = "/",
        method: str = "GET",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        await self.send_head(target, method, {"content-length": str(len(body)), **(headers or {})})
        await self.send(body)
        return await self.answer()

    async def send_head(self, target: str, method: str, headers: dict[str, str]) -> None:
        lines = {"host": self.host or f"{self.address}:{self.port}", **headers}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value != "-")
        await self.send(f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode())

    async def send(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> Answer:
        assert self._reader is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            first, headers = await read_head(self._reader)
            return Answer(int(first.split(" ")[1]), headers, await read_body(self._reader, headers))

    async def receive(self, count: int) -> bytes:
        assert self._reader is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._reader.readexactly(count)

    async def upgrade(self, target: str = "/") -> int:
        """Ask for a websocket; the connection is a raw echo afterwards."""
        assert self._reader is not None
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-version": "13",
            "sec-websocket-key": key,
        }
        await self.send_head(target, "GET", headers)
        first, _ = await read_head(self._reader)
        return int(first.split(" ")[1])


async def ask(
    address: str,
    port: int,
    target: str = "/",
    *,
    method: str = "GET",
    host: str = "",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own."""
    async with Client(address, port, host) as client:
        return await client.ask(target, method, body, headers)
