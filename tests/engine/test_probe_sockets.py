"""HTTP and TCP probes as bare sockets, and when they are asked: against real small servers."""

import asyncio
import gc
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devstack.core.model import Check, TcpProbe
from devstack.engine.probes.schedule import Role, Track
from devstack.engine.probes.sockets import SocketProbe, http_request
from tests.support.processes import PATIENCE_SECONDS

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """A server whose connections end with it; its address as a literal."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connected, host, 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def answering(data: bytes, *, rest: float = 0.0) -> Handler:
    """Answers a request with these bytes; with a rest, one byte at a time."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in [data[n : n + 1] for n in range(len(data))] if rest else [data]:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(rest)
        await reader.read()

    return handle


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers and closes first, as a server that was asked to does."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts and never answers."""
    del writer
    await asyncio.Event().wait()
    await reader.read()


async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes without an answer."""
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Resets the connection after the request."""
    await reader.readuntil(b"\r\n\r\n")
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def probe(address: str, request: bytes | None, timeout: float = 5.0) -> tuple[bool, str]:
    """One probe, which must call back exactly once."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[bool, str]] = loop.create_future()
    SocketProbe(loop, address, request, timeout, lambda *result: answer.set_result(result))
    async with asyncio.timeout(20):
        return await answer


def ask(handler: Handler, *, timeout: float = 5.0, http: bool = True) -> tuple[bool, str]:
    async def scenario() -> tuple[bool, str]:
        async with serving(handler) as address:
            request = http_request("/healthz", "web") if http else None
            return await probe(address, request, timeout)

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answer", "passed", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, ""),
        (b"HTTP/1.0 204 No Content\r\n\r\n", True, ""),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", True, ""),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False, "answered 404 Not Found"),
        (
            b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
            False,
            "answered 500 Internal Server Error",
        ),
        (b"HTTP/1.1 503\r\n\r\n", False, "answered 503"),
        (b"220 mail.example ESMTP\r\n", False, "the answer is not HTTP"),
        (b"\x00\xff\x10" * 400, False, "the answer is not HTTP"),
        (b"HTTP/1.1 abc\r\n", False, "the answer is not HTTP"),
    ],
)
def test_any_status_below_400_passes_and_anything_else_is_told(
    answer: bytes, passed: bool, reason: str
) -> None:
    assert ask(answering(answer)) == (passed, reason)


def test_a_server_that_waits_for_its_client_to_close_does_not_wait_for_the_time_out() -> None:
    body = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    async def scenario() -> None:
        closed = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await answering(body)(reader, writer)
            finally:
                closed.set()

        async with serving(handle) as address, asyncio.timeout(PATIENCE_SECONDS):
            passed = await probe(address, http_request("/", "web"), timeout=10 * PATIENCE_SECONDS)
            assert passed == (True, "")
            await closed.wait()

    asyncio.run(scenario())


def test_an_answer_that_comes_byte_by_byte_is_put_together() -> None:
    assert ask(answering(b"HTTP/1.1 200 OK\r\n\r\n", rest=0.002)) == (True, "")


def test_b07_an_answer_too_slow_is_none() -> None:
    slow = answering(b"HTTP/1.1 200 OK\r\n\r\n", rest=0.2)
    assert ask(slow, timeout=0.3) == (False, "no answer within 0.3 s")


def test_b07_a_server_that_accepts_and_never_answers_fails_at_the_time_out() -> None:
    assert ask(silent, timeout=0.2) == (False, "no answer within 0.2 s")
    assert ask(silent, timeout=0.2, http=False) == (True, "")


def test_a_server_that_hangs_up_or_resets_is_told_as_such() -> None:
    assert ask(hanging_up) == (False, "closed the connection without an answer")
    passed, reason = ask(resetting)
    assert not passed
    assert reason.endswith(os.strerror(104))


class Reading:
    """A server of one connection, in a thread: it answers in two parts, the second after the result."""

    def __init__(self, *, ends: bool, rest: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_SECONDS)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends = ends
        self._rest = rest
        self.is_told = threading.Event()

    def serve(self) -> str:
        """What became of the second part, and of the connection then."""
        with self._listener, self._listener.accept()[0] as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\na")
            assert self.is_told.wait(PATIENCE_SECONDS)
            try:
                connection.sendall(self._rest)
            except ConnectionError:
                return "reset while it wrote"
            if self._ends:
                connection.shutdown(socket.SHUT_WR)
            try:
                connection.recv(1)  # until the other side is gone
            except ConnectionResetError:
                return "closed afterwards"
            return "closed by halves"

    def answer(self, *, timeout: float = PATIENCE_SECONDS) -> str:
        async def scenario() -> str:
            serving = asyncio.create_task(asyncio.to_thread(self.serve))
            assert await probe(self.address, http_request("/", "web"), timeout) == (True, "")
            self.is_told.set()
            return await serving

        return asyncio.run(scenario())


def test_the_status_line_tells_and_the_rest_is_read_before_the_connection_is_closed() -> None:
    assert Reading(ends=True, rest=b"b").answer() == "closed afterwards"


def test_an_answer_without_an_end_is_read_until_the_time_out() -> None:
    assert Reading(ends=False, rest=b"b").answer(timeout=3.0) == "closed afterwards"


def test_of_a_long_answer_no_more_is_read_than_kubelet_reads() -> None:
    assert Reading(ends=False, rest=b"x" * 10 * 1024).answer() == "closed afterwards"
    assert Reading(ends=False, rest=b"x" * 50_000_000).answer() == "reset while it wrote"


def test_nothing_that_listens_is_told_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

    assert asyncio.run(probe(address, None)) == (False, f"nothing listens on {address}")
    assert asyncio.run(probe(address, b"GET")) == (False, f"nothing listens on {address}")


def test_a_literal_ipv6_address_is_asked_as_one() -> None:
    async def scenario() -> tuple[bool, str]:
        async with serving(answering(b"HTTP/1.1 200 OK\r\n\r\n"), "::1") as address:
            return await probe(address, http_request("/", "web"))

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no ::1")
    assert asyncio.run(scenario()) == (True, "")


def test_a_cancelled_probe_says_nothing_and_holds_no_socket() -> None:
    async def scenario() -> list[object]:
        loop, told = asyncio.get_running_loop(), list[object]()
        async with serving(silent) as address:
            probes = [
                SocketProbe(loop, address, b"GET", 0.05, lambda *result: told.append(result))
                for _ in range(10)
            ]
            for each in probes:
                each.cancel()
            # longer than the time-out: a result that was to come would have come
            await asyncio.sleep(0.1)
        return told

    assert asyncio.run(scenario()) == []
    gc.collect()  # an unclosed socket is a ResourceWarning, which is an error here


@pytest.mark.parametrize("handler", [answering(b"HTTP/1.1 200 OK\r\n\r\n"), closing])
def test_b07_probes_leave_no_time_wait_sockets(handler: Handler) -> None:
    """Kubelet's TestTCPPortExhaustion: each would eat an ephemeral port for a minute."""

    async def scenario() -> list[str]:
        async with serving(handler) as address:
            port = int(address.rpartition(":")[2])
            request = http_request("/", "web")
            before = waiting(port)  # of who had the same number a moment ago
            for _ in range(10):
                results = await asyncio.gather(
                    *(probe(address, request if n % 2 else None) for n in range(20))
                )
                assert all(passed for passed, _ in results)
            return [each for each in waiting(port) if each not in before]

    assert asyncio.run(scenario()) == []


def waiting(port: int) -> list[str]:
    """TIME_WAIT sockets of either side of a port (proc(5): state 06 in /proc/net/tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    wanted = f":{port:04X}"
    return [
        f"{local} {remote}"
        for _, local, remote, state, *_ in lines
        if state == "06" and (local.endswith(wanted) or remote.endswith(wanted))
    ]


# ── when they are asked ───────────────────────────────────────────────────────────────────────


def track(role: Role = Role.READY, **changes: int | float) -> Track:
    check = Check(TcpProbe(), **{"interval_seconds": 2.0, **changes})  # type: ignore[arg-type]  # a mapping of floats and counts
    return Track(role, check, due=0.0)


@pytest.mark.parametrize(
    ("passing", "age", "expensive", "role", "seconds"),
    [
        (None, 0.0, False, Role.READY, 0.02),
        (False, 0.99, False, Role.READY, 0.02),
        (False, 0.5, False, Role.STARTUP, 0.02),
        (None, 0.5, True, Role.READY, 0.2),
        (None, 1.0, False, Role.READY, 0.2),
        (False, 60.0, False, Role.READY, 0.2),
        (True, 0.5, False, Role.READY, 2.0),
        (True, 60.0, True, Role.READY, 2.0),
        (None, 0.1, False, Role.ALIVE, 2.0),
    ],
)
def test_a_probe_is_asked_often_until_first_ready_and_at_leisure_then(
    passing: bool | None, age: float, expensive: bool, role: Role, seconds: float
) -> None:
    asked = track(role)
    asked.passing = passing

    assert asked.next_due(100.0 + age, 100.0, expensive=expensive) == pytest.approx(
        100.0 + age + seconds
    )


def test_a_ready_replica_may_fail_twice_and_the_third_is_told() -> None:
    asked = track(failures=3)
    assert asked.note(True, "")

    assert not asked.note(False, "slow")
    assert not asked.note(False, "slow")
    assert asked.passing
    assert asked.note(False, "slow")
    assert (asked.passing, asked.reason) == (False, "slow")


def test_a_pass_between_failures_starts_the_count_anew() -> None:
    asked = track(failures=2)
    asked.note(True, "")

    assert not any(asked.note(passed, "x") for passed in (False, True, False, True, False, True))
    assert asked.passing


def test_a_repeated_result_is_nothing_to_tell_but_a_new_reason_is() -> None:
    asked = track()

    told = [
        asked.note(False, "nothing listens"),
        asked.note(False, "nothing listens"),
        asked.note(False, "answered 503"),
        asked.note(False, "answered 503"),
        asked.note(True, ""),
        asked.note(True, ""),
    ]

    assert told == [True, False, True, False, True, False]
    assert asked.reason == ""


def test_several_passes_may_be_asked_for() -> None:
    asked = track(successes=3)

    assert [asked.note(True, "") for _ in range(4)] == [False, False, True, False]


def test_liveness_counts_failures_in_a_row() -> None:
    asked = track(Role.ALIVE, failures=2)

    asked.note(False, "x")
    assert not asked.has_failed_enough
    asked.note(True, "")
    asked.note(False, "x")
    assert not asked.has_failed_enough
    asked.note(False, "x")
    assert asked.has_failed_enough
