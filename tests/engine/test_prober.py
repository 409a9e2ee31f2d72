"""The prober end to end: real sockets, and a world that does as the test says."""

import asyncio
import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from devstack.core.events import (
    Event,
    LivenessFailed,
    ReadinessChanged,
    ReplicaListens,
    ReplicaWarned,
    StartupPassed,
)
from devstack.core.model import (
    Check,
    Command,
    Endpoint,
    ExecProbe,
    HttpProbe,
    Kind,
    ListenProbe,
    LogProbe,
    Probe,
    QueryProbe,
    Service,
    ShellCommand,
    SourceProgram,
    TcpProbe,
    UptimeProbe,
)
from devstack.core.template import literal
from devstack.engine.operations import ProbeTarget
from devstack.engine.probes.listening import beyond_loopback, elsewhere, look
from devstack.engine.probes.prober import ReplicaProber, is_traced
from tests.support.processes import eventually, eventually_async

E = TypeVar("E", bound=Event)
REPLICA = "web.1#1"
ME = os.getpid()


@dataclass
class Scripted:
    """A `ProbeWorld`; what it is asked for is counted."""

    own: set[int] = field(default_factory=lambda: {ME})
    exec_seconds: float = 0.0
    exec_answer: str = ""
    query_answer: str = ""
    log: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    looks: int = 0
    running: int = 0
    most_running: int = 0
    runs: int = 0
    searches: int = 0
    refuses: Exception | None = None
    """What a look into the log ends with."""

    async def own_pids(self, replica: str) -> frozenset[int]:
        assert replica == REPLICA
        self.looks += 1
        return frozenset(self.own)

    async def run(
        self, replica: str, service: Service, command: Command, timeout_seconds: float
    ) -> str:
        del replica, service, command, timeout_seconds
        self.runs += 1
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await asyncio.sleep(self.exec_seconds)
        finally:
            self.running -= 1
        return self.exec_answer

    def load_driver(self, service: Service) -> None:
        self.loaded.append(service.name)

    def query(self, service: Service, timeout_seconds: float) -> str:
        del service, timeout_seconds
        return self.query_answer

    async def ask_gateway(self) -> str:
        return ""

    def log_has(self, replica: str, service: Service, pattern: str) -> bool:
        del replica, service
        self.searches += 1
        if self.refuses is not None:
            raise self.refuses
        return any(pattern in line for line in self.log)


@dataclass
class Page:
    """An HTTP server in this process: what each path answers, and what was asked in which order."""

    statuses: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    open: int = 0
    most_open: int = 0
    silent: bool = False
    port: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split()[1].decode()
            self.asked.append(path)
            if self.silent:
                await reader.read()
                return
            writer.write(f"HTTP/1.1 {self.statuses.get(path, 200)} x\r\n\r\n".encode())
            await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self.open -= 1
            writer.transport.abort()

    @asynccontextmanager
    async def serving(self, host: str = "127.0.0.1") -> AsyncIterator[str]:
        server = await asyncio.start_server(self.handle, host, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"127.0.0.1:{self.port}"
        finally:
            server.close()
            await server.wait_closed()
            await eventually_async(lambda: self.open == 0)


@dataclass
class Probing:
    prober: ReplicaProber
    events: list[Event] = field(default_factory=list)

    def watch(
        self,
        ready: Check,
        *addresses: str,
        startup: Check | None = None,
        alive: Check | None = None,
        started: bool = False,
        was_ready: bool = False,
    ) -> None:
        endpoints = tuple(Endpoint(f"e{n}", 8080 + n) for n in range(len(addresses)))
        service = Service(
            "web",
            Kind.SERVICE,
            SourceProgram(None),
            endpoints=endpoints,
            ready=ready,
            startup=startup,
            alive=alive,
        )
        given = {e.name: a for e, a in zip(endpoints, addresses, strict=True)}
        target = ProbeTarget(REPLICA, service, given, ME, started=started, was_ready=was_ready)
        self.prober.watch(target, self.events.append)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def first(self, kind: type[E], matches: Callable[[E], bool] = lambda _: True) -> E:
        found = await eventually_async(lambda: [e for e in self.of(kind) if matches(e)], 20)
        return found[0]

    async def ready(self) -> ReadinessChanged:
        return await self.first(ReadinessChanged, lambda event: event.ready)

    async def reason(self, words: str) -> ReadinessChanged:
        return await self.first(ReadinessChanged, lambda event: words in event.reason)


@asynccontextmanager
async def probing(world: Scripted) -> AsyncIterator[Probing]:
    prober = ReplicaProber(world)
    serving = asyncio.create_task(prober.serve())
    await asyncio.sleep(0)
    try:
        yield Probing(prober)
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def check(probe: Probe, **changes: float) -> Check:
    """Asked often; no test of anything else meets the time-out, however long this machine stands still."""
    return Check(probe, **{"interval_seconds": 0.05, "timeout_seconds": 60.0, **changes})  # type: ignore[arg-type]  # seconds and counts


# ── listening ─────────────────────────────────────────────────────────────────────────────────


@contextmanager
def foreign(address: str = "127.0.0.1") -> Iterator[tuple[int, int]]:
    """A listener of another process: its pid and port."""
    program = (
        "import socket,sys,time; s=socket.create_server((sys.argv[1],0));"
        "print(s.getsockname()[1],flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, address], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        try:
            yield child.pid, port
        finally:
            child.kill()


def test_the_replicas_own_listener_is_found_on_either_loopback_and_the_wildcard() -> None:
    for address, literal_ in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")):
        with socket.create_server((address, 0)) as server:
            port = server.getsockname()[1]
            assert look("web", port, "127.0.0.1", {ME}).address == f"{literal_}:{port}"


def test_a_replica_that_listens_on_ipv6_alone_is_entered_by_its_literal_address() -> None:
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no ::1")
    with server:
        port = server.getsockname()[1]
        assert look("web", port, "127.0.0.1", {ME}).address == f"[::1]:{port}"
        assert look("web", port, "::1", {ME}).address == f"[::1]:{port}"


def test_a_foreign_listener_is_an_error_that_names_the_pid() -> None:
    with foreign() as (pid, port):
        found = look("web", port, "127.0.0.1", {ME})

    assert found.address is None
    assert found.reason.startswith(f"port {port} is in use by pid {pid} (python")
    assert found.reason.endswith(", not by web")


def test_nothing_at_all_is_told_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert look("web", port, "127.0.0.1", {ME}).reason == f"nothing listens on 127.0.0.1:{port}"


def service_on(*endpoints: Endpoint) -> Service:
    return Service("orders", Kind.SERVICE, SourceProgram(None), endpoints=endpoints)


WEB, ADMIN, OLD = Endpoint("web", 8080), Endpoint("admin", 9090), Endpoint("old", 21034, fixed=True)


def test_a_replica_that_listens_elsewhere_is_told_what_would_help() -> None:
    with foreign() as (pid, port):
        for silent, others, words in (
            (WEB, (), f"not on $PORT (21034): read PORT, or set port: {{fixed: {port}}}"),
            (
                ADMIN,
                (WEB,),
                f"not on $PORT_ADMIN (21034): read PORT_ADMIN, or set admin: {{fixed: {port}}}",
            ),
            (OLD, (), f"not on its fixed port 21034: set port: {{fixed: {port}}}"),
        ):
            service = service_on(*others, silent)
            text = elsewhere(service, silent.name, {silent.name: 21034}, {pid})
            assert text == f"orders listens on 127.0.0.1:{port}, {words}"
    assert elsewhere(service_on(WEB), "web", {"web": 21034}, set()) == ""


def test_a_port_on_which_a_replica_listens_rightly_is_no_advice_for_another() -> None:
    with foreign() as (pid, port):
        told = {"web": 21034, "admin": port}
        assert elsewhere(service_on(WEB, ADMIN), "web", told, {pid}) == ""


def test_the_port_that_is_silent_is_explained_and_not_the_first() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            silent = taken.getsockname()[1]
        with foreign() as (pid, port):
            async with Page().serving() as first, probing(Scripted(own={ME, pid})) as all_:
                # the admin port is asked, and the program listens for it somewhere else
                all_.watch(check(TcpProbe("e1")), first, f"127.0.0.1:{silent}")
                told = await all_.reason("not on $PORT_E1")
                assert f"listens on 127.0.0.1:{port}, not on $PORT_E1 ({silent})" in told.reason

    asyncio.run(scenario())


def test_a_silent_main_port_is_not_to_be_fixed_to_the_admin_port() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            silent = taken.getsockname()[1]
        world = Scripted()
        async with Page().serving() as admin, probing(world) as all_:
            all_.watch(check(ListenProbe()), f"127.0.0.1:{silent}", admin)
            await eventually_async(lambda: world.looks >= 3, 20)
            told = {event.reason for event in all_.of(ReadinessChanged)}
            assert told == {f"nothing listens on 127.0.0.1:{silent}"}

    asyncio.run(scenario())


def test_listeners_that_other_machines_reach_are_told_apart() -> None:
    with foreign("0.0.0.0") as (pid, port), foreign() as (other, _):
        assert [each.port for each in beyond_loopback({pid, other})] == [port]


# ── conditions ────────────────────────────────────────────────────────────────────────────────


def test_i01_a_startup_probe_that_has_passed_is_not_asked_again_after_adoption() -> None:
    async def scenario() -> None:
        page = Page({"/started": 503})
        async with page.serving() as address, probing(Scripted()) as all_:
            startup = check(HttpProbe("/started"))
            all_.watch(check(HttpProbe("/ready")), address, startup=startup, started=True)

            await all_.ready()
            assert "/started" not in page.asked
            all_.prober.forget(REPLICA)

    asyncio.run(scenario())


def test_i01_a_replica_that_was_ready_stays_so_after_adoption_until_its_probe_fails() -> None:
    async def scenario() -> None:
        page = Page()
        async with page.serving() as address, probing(Scripted()) as all_:
            all_.watch(check(HttpProbe("/ready")), address, started=True, was_ready=True)
            await eventually_async(lambda: len(page.asked) >= 3)
            assert all_.of(ReadinessChanged) == []

            page.statuses["/ready"] = 503
            await all_.reason("503")
            all_.prober.forget(REPLICA)

    asyncio.run(scenario())


def test_i01_a_log_line_that_was_found_before_stays_found_after_adoption() -> None:
    async def scenario() -> None:
        world = Scripted()
        async with probing(world) as all_:
            line = check(LogProbe("listening"))
            all_.watch(line, startup=line, alive=line, started=True, was_ready=True)
            await eventually_async(lambda: world.searches > 20)
            assert all_.events == []

    asyncio.run(scenario())


def test_startup_holds_back_readiness_and_liveness() -> None:
    async def scenario() -> None:
        page = Page({"/started": 503})
        async with page.serving() as address, probing(Scripted()) as all_:
            all_.watch(
                check(HttpProbe("/ready")),
                address,
                startup=check(HttpProbe("/started")),
                alive=check(HttpProbe("/alive")),
            )
            await eventually_async(lambda: len(page.asked) >= 5)
            assert set(page.asked) == {"/started"}
            assert not all_.of(StartupPassed)

            page.statuses.clear()
            await all_.ready()
            await eventually_async(lambda: "/alive" in page.asked)
            all_.prober.forget(REPLICA)

        kinds = [type(event) for event in all_.events]
        assert kinds.count(StartupPassed) == 1
        passed = kinds.index(StartupPassed)
        # before: why it has not started yet, once; after: ready, once
        assert [e.ready for e in all_.of(ReadinessChanged)] == [False, True]
        assert passed < len(kinds) - 1
        assert "/started" not in page.asked[page.asked.index("/ready") :]

    asyncio.run(scenario())


def test_a_repeated_result_is_no_event() -> None:
    async def scenario() -> None:
        page = Page({"/": 503})
        async with page.serving() as address, probing(Scripted()) as all_:
            all_.watch(check(HttpProbe("/")), address)
            await eventually_async(lambda: len(page.asked) >= 10)
            assert [e.reason for e in all_.of(ReadinessChanged)] == ["answered 503 x"]
            page.statuses.clear()
            await all_.ready()
            asked = len(page.asked)
            await eventually_async(lambda: len(page.asked) >= asked + 10)
            assert [e.ready for e in all_.of(ReadinessChanged)] == [False, True]
            page.statuses["/"] = 500
            await all_.reason("answered 500")
            assert [e.ready for e in all_.of(ReadinessChanged)] == [False, True, False]

    asyncio.run(scenario())


def test_a_green_dot_is_true_another_programs_answer_makes_nobody_ready() -> None:
    async def scenario() -> None:
        page = Page()
        world = Scripted(own=set())
        async with page.serving() as address, probing(world) as all_:
            all_.watch(check(HttpProbe("/")), address)
            told = await all_.reason("in use by")
            assert f"port {page.port} is in use by pid {ME}" in told.reason
            assert not [e for e in all_.of(ReadinessChanged) if e.ready]
            world.own.add(ME)
            await all_.ready()

    asyncio.run(scenario())


def test_without_ready_a_port_must_be_listened_on_by_the_replica_itself() -> None:
    async def scenario() -> None:
        with foreign() as (pid, port):
            world = Scripted()
            async with probing(world) as all_:
                all_.watch(check(ListenProbe()), f"127.0.0.1:{port}")
                told = await all_.reason("in use by")
                assert f"pid {pid} " in told.reason
                world.own.add(pid)
                await all_.ready()
                os.kill(pid, signal.SIGKILL)
                await all_.reason(f"nothing listens on 127.0.0.1:{port}")

    asyncio.run(scenario())


def test_every_declared_port_must_listen() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as first:
            with socket.create_server(("127.0.0.1", 0)) as gone:
                second = gone.getsockname()[1]
            main = f"127.0.0.1:{first.getsockname()[1]}"
            async with probing(Scripted()) as all_:
                all_.watch(check(ListenProbe()), main, f"127.0.0.1:{second}")
                await all_.reason(f"nothing listens on 127.0.0.1:{second}")
                with socket.create_server(("127.0.0.1", second)):
                    await all_.ready()

    asyncio.run(scenario())


def test_a_replica_that_listens_elsewhere_says_where_after_a_second() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            free = server.getsockname()[1]
        with foreign() as (pid, port):
            async with probing(Scripted(own={pid})) as all_:
                all_.watch(check(HttpProbe("/")), f"127.0.0.1:{free}")
                told = await all_.reason("web listens on")
                assert f"web listens on 127.0.0.1:{port}, not on $PORT ({free})" in told.reason

    asyncio.run(scenario())


def test_a_replica_on_ipv6_alone_gets_ready_under_its_literal_address() -> None:
    async def scenario() -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            port = server.getsockname()[1]
            async with probing(Scripted()) as all_:
                all_.watch(check(ListenProbe()), f"127.0.0.1:{port}")
                await all_.ready()
                (told,) = all_.of(ReplicaListens)
                assert told.addresses == (("e0", f"[::1]:{port}"),)

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no ::1")
    asyncio.run(scenario())


def test_whoever_listens_beyond_loopback_is_warned_of_in_the_same_words_each_time() -> None:
    async def scenario() -> str:
        with foreign("0.0.0.0") as (pid, port), foreign("0.0.0.0") as (other, _):
            async with probing(Scripted(own={pid, other})) as all_:
                all_.watch(check(TcpProbe()), f"127.0.0.1:{port}")
                await all_.ready()
                (told,) = all_.of(ReplicaWarned)
                return told.message

    once, again = asyncio.run(scenario()), asyncio.run(scenario())

    assert once == again
    assert once == (
        "web listens on 0.0.0.0: other machines may reach it; "
        'set HOST: "${self.host}" in its environment and listen on $HOST'
    )


def test_a_worker_is_ready_when_it_has_lived_long_enough() -> None:
    async def scenario() -> None:
        async with probing(Scripted()) as all_:
            loop = asyncio.get_running_loop()
            begun = loop.time()
            all_.watch(check(UptimeProbe(0.3)))
            await all_.ready()
            assert loop.time() - begun >= 0.3
            assert all_.events == all_.of(ReadinessChanged)[:1]

    asyncio.run(scenario())


def test_a_line_that_was_written_once_stays_found() -> None:
    async def scenario() -> None:
        world = Scripted()
        async with probing(world) as all_:
            all_.watch(check(LogProbe("listening")))
            await all_.reason("no line matches 'listening' yet")
            world.log.append("now listening on 1")
            await all_.ready()
            world.log.clear()
            asked = world.searches
            await eventually_async(lambda: world.searches > asked + 5)
            assert [e.ready for e in all_.of(ReadinessChanged)] == [False, True]

    asyncio.run(scenario())


def test_a_probe_that_the_system_refuses_has_failed_and_is_asked_again() -> None:
    """No descriptor is left, or the log may not be read: no reason to stop all probing."""

    async def scenario() -> None:
        world = Scripted(refuses=OSError(errno.EMFILE, "Too many open files", "/logs/web.log"))
        async with probing(world) as all_:
            all_.watch(check(LogProbe("listening")))
            await all_.reason("/logs/web.log: Too many open files")
            asked = world.searches
            await eventually_async(lambda: world.searches > asked + 5)
            world.refuses, world.log = None, ["listening"]
            await all_.ready()

    asyncio.run(scenario())


def test_any_other_error_of_a_probe_ends_who_serves_it() -> None:
    """It is a bug, and a prober that asks nobody any more would look like a healthy stack."""

    async def scenario() -> None:
        prober = ReplicaProber(Scripted(refuses=LookupError("a bug")))
        serving = asyncio.create_task(prober.serve())
        await asyncio.sleep(0)
        Probing(prober).watch(check(LogProbe("listening")))
        with pytest.raises(ExceptionGroup) as ended:
            await asyncio.wait_for(serving, 20)
        assert ended.group_contains(LookupError)

    asyncio.run(scenario())


def test_a_server_is_asked_in_its_own_protocol_off_the_loop() -> None:
    async def scenario() -> None:
        world = Scripted(query_answer="the database system is starting up")
        async with probing(world) as all_:
            all_.watch(check(QueryProbe()))
            await all_.reason("starting up")
            # in a thread of its own
            await eventually_async(lambda: world.loaded)
            world.query_answer = ""
            await all_.ready()
            assert len(world.loaded) == 1, "its driver is loaded while it starts, and once"

    asyncio.run(scenario())


def test_a_replica_whose_probe_has_no_port_to_ask_is_told() -> None:
    async def scenario() -> None:
        async with probing(Scripted()) as all_:
            all_.watch(check(TcpProbe()))
            await all_.reason("it has no port to ask")

    asyncio.run(scenario())


# ── how probes are asked ──────────────────────────────────────────────────────────────────────


def test_b07_b08_at_most_one_probe_of_a_kind_is_in_flight() -> None:
    async def scenario() -> None:
        page = Page(silent=True)
        world = Scripted(exec_seconds=0.1, exec_answer="not yet")
        command = ShellCommand(literal("true"))
        async with page.serving() as address, probing(world) as all_:
            all_.watch(
                check(ExecProbe(command)),
                address,
                alive=check(HttpProbe("/"), timeout_seconds=0.2),
            )
            await eventually_async(lambda: world.runs >= 4 and len(page.asked) >= 4, 20)
            assert (world.most_running, page.most_open) == (1, 1)

    asyncio.run(scenario())


def test_b07_answers_that_do_not_end_do_not_pile_up() -> None:
    async def scenario() -> int:
        page = Page({"/": 503})  # it keeps its connections, whatever the request says
        async with page.serving() as address, probing(Scripted()) as probes:
            probes.watch(Check(HttpProbe("/"), timeout_seconds=60.0), address)
            await eventually_async(lambda: len(page.asked) > 15)
            return page.most_open

    # five are read, one is asked, and the server sees an end a little later; all sixteen if none were closed
    assert asyncio.run(scenario()) <= 10


def test_b07_a_probe_that_hangs_fails_at_its_time_out() -> None:
    async def scenario() -> None:
        page = Page(silent=True)
        async with page.serving() as address, probing(Scripted()) as all_:
            all_.watch(check(HttpProbe("/"), timeout_seconds=0.2), address)
            await all_.reason("no answer within 0.2 s")

    asyncio.run(scenario())


def test_nothing_is_posted_about_a_replica_that_is_forgotten() -> None:
    async def scenario() -> None:
        page = Page(silent=True)
        world = Scripted(exec_seconds=600, exec_answer="never")
        command = ShellCommand(literal("true"))
        async with page.serving() as address, probing(world) as all_:
            all_.watch(
                check(ExecProbe(command)), address, alive=check(HttpProbe("/"), timeout_seconds=0.2)
            )
            await eventually_async(lambda: world.running == 1 and page.open == 1)
            all_.prober.forget(REPLICA)
            all_.prober.forget(REPLICA)
            # the exec probe is cancelled and the connection closed, not waited for
            await eventually_async(lambda: world.running == 0 and page.open == 0)
            asked = len(page.asked)
            await asyncio.sleep(0.4)  # longer than interval and time-out together
            assert (all_.events, len(page.asked)) == ([], asked)

    asyncio.run(scenario())


def test_a_new_watch_of_the_same_name_hears_nothing_of_the_old_one() -> None:
    async def scenario() -> None:
        page = Page({"/": 503})
        async with page.serving() as address, probing(Scripted()) as all_:
            all_.watch(check(HttpProbe("/")), address)
            await all_.reason("answered 503")
            all_.prober.forget(REPLICA)
            page.statuses.clear()
            count = len(all_.events)
            all_.watch(check(HttpProbe("/")), address)
            await all_.ready()
            assert [e.ready for e in all_.of(ReadinessChanged)[count:]] == [True]

    asyncio.run(scenario())


# ── liveness ──────────────────────────────────────────────────────────────────────────────────

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17


@contextmanager
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            yield process
        finally:
            process.kill()


def trace(pid: int) -> Callable[[], None]:
    """Attach as a debugger does (ptrace(2)); returns what detaches. Skips where it is forbidden."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(_SEIZE, pid, None, None) != 0:
        pytest.skip(f"this system forbids ptrace: {os.strerror(ctypes.get_errno())}")

    def detach() -> None:
        libc.ptrace(_INTERRUPT, pid, None, None)
        os.waitpid(pid, os.WUNTRACED)
        assert libc.ptrace(_DETACH, pid, None, None) == 0

    return detach


def test_liveness_is_reported_after_its_failures_in_a_row() -> None:
    async def scenario() -> None:
        page = Page({"/alive": 500})
        async with page.serving() as address, probing(Scripted()) as all_:
            all_.watch(check(TcpProbe()), address, alive=check(HttpProbe("/alive"), failures=3))
            told = await all_.first(LivenessFailed)
            assert told.reason == "answered 500 x"
            assert page.asked.count("/alive") >= 3

    asyncio.run(scenario())


def test_a_breakpoint_is_no_crash_while_a_debugger_is_attached() -> None:
    async def scenario(pid: int) -> None:
        page = Page({"/alive": 500})
        world = Scripted(own={ME, pid})
        async with page.serving() as address, probing(world) as all_:
            detach = trace(pid)
            assert is_traced(pid)
            all_.watch(check(TcpProbe()), address, alive=check(HttpProbe("/alive"), failures=2))
            await eventually_async(lambda: page.asked.count("/alive") >= 8)
            assert not all_.of(LivenessFailed)
            detach()
            eventually(lambda: not is_traced(pid))
            await all_.first(LivenessFailed)

    with child() as process:
        asyncio.run(scenario(process.pid))


def test_a_process_that_is_gone_is_not_traced() -> None:
    with child() as process:
        assert not is_traced(process.pid)
    assert not is_traced(process.pid)
