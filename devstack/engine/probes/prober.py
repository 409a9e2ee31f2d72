"""The prober: one timer starts all probes that are due; what changes is posted as an event."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, assert_never

from devstack.core.blame import refusal
from devstack.core.events import (
    LivenessFailed,
    ReadinessChanged,
    ReplicaListens,
    ReplicaWarned,
    StartupPassed,
)
from devstack.core.model import (
    Command,
    ExecProbe,
    HttpProbe,
    ListenProbe,
    LogProbe,
    QueryProbe,
    Service,
    TcpProbe,
    UptimeProbe,
)
from devstack.engine.operations import Post, ProbeTarget
from devstack.engine.probes.listening import (
    beyond_loopback,
    elsewhere,
    exposure,
    is_listened_on,
    look,
    somebody_listens,
    still_listens,
)
from devstack.engine.probes.schedule import FIRST_SECOND_INTERVAL, QUICK_SECONDS, Role, Track
from devstack.engine.probes.sockets import SocketProbe, http_request

_BATCH_SECONDS = 0.005
"""Probes due within this are started together."""
_MOST_UNREAD = 5
"""Answers of one replica that are still read: as many as one that starts is asked within a second."""


class ProbeWorld(Protocol):
    """What probes need of the engine beyond sockets."""

    async def own_pids(self, replica: str) -> frozenset[int]:
        """The processes that belong to a replica."""
        ...

    async def run(
        self, replica: str, service: Service, command: Command, timeout_seconds: float
    ) -> str:
        """Run an exec probe; why it failed, empty when it passed. Its whole tree ends at the time-out."""
        ...

    def load_driver(self, service: Service) -> None:
        """Import what `query` will need, blocking: a server that is ready must not wait for that."""
        ...

    def query(self, service: Service, timeout_seconds: float) -> str:
        """Ask a server in its own protocol, blocking; why it failed, empty when it answered."""
        ...

    async def ask_gateway(self) -> str:
        """Why the gateway is not ready; empty when it is."""
        ...

    def log_has(self, replica: str, service: Service, pattern: str) -> bool:
        """Whether the replica has written a line that matches."""
        ...


@dataclass(slots=True)
class _Watch:
    target: ProbeTarget
    post: Post
    born: float
    tracks: list[Track]
    addresses: dict[str, str]
    sockets: list[SocketProbe] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    inodes: dict[int, int] = field(default_factory=dict)
    inspected: bool = False
    answered: bool = False
    """A server was seen to listen: from then on it is asked, not looked at."""

    @property
    def name(self) -> str:
        return self.target.service.name

    def make_room(self) -> None:
        """For one more connection: a server that does not end its answers is left with a few."""
        unread = [probe for probe in self.sockets if probe.is_unread]
        for oldest in unread[: max(0, len(unread) - _MOST_UNREAD + 1)]:
            oldest.cancel()
        self.sockets = [probe for probe in self.sockets if probe.is_open]


class ReplicaProber:
    """See the module's docstring. `serve` owns every task and must run."""

    def __init__(self, world: ProbeWorld) -> None:
        self._world = world
        self._watches: dict[str, _Watch] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="probe")
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="driver")
        """One after the other: side by side the first would be loaded when the last is."""

    async def serve(self) -> None:
        """Start what is due and own its tasks until cancelled; an exception is a bug and passes on."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                while True:
                    await self._due.wait()
                    self._due.clear()
                    self._ask_all_due()
        finally:
            for replica in list(self._watches):
                self.forget(replica)
            for pool in (self._threads, self._loader):
                pool.shutdown(wait=False, cancel_futures=True)

    def watch(self, target: ProbeTarget, post: Post) -> None:
        """Begin asking a replica: its startup probe first, the others once that passed."""
        now = asyncio.get_running_loop().time()
        watch = _Watch(target, post, now, [], dict(target.addresses))
        self._watches[target.replica] = watch
        if target.service.kind != "gateway" and isinstance(target.ready.probe, QueryProbe):
            self._loader.submit(self._world.load_driver, target.service)
        if target.service.startup is not None and not target.started:
            watch.tracks.append(Track(Role.STARTUP, target.service.startup, now))
        else:
            self._begin_conditions(watch, now)
        self._arm()

    def forget(self, replica: str) -> None:
        """Stop asking; nothing about the replica is posted afterwards."""
        watch = self._watches.pop(replica, None)
        if watch is None:
            return
        for probe in watch.sockets:
            probe.cancel()
        for task in watch.tasks:
            task.cancel()

    # ── schedule ──────────────────────────────────────────────────────────────────────────────

    def _begin_conditions(self, watch: _Watch, now: float) -> None:
        service = watch.target.service
        known = True if watch.target.was_ready else None
        watch.tracks = [Track(Role.READY, service.ready, now, known)]
        if service.alive is not None:
            due = now + service.alive.interval_seconds
            watch.tracks.append(Track(Role.ALIVE, service.alive, due, known))

    def _arm(self) -> None:
        due = min(
            (t.due for w in self._watches.values() for t in w.tracks if not t.in_flight),
            default=None,
        )
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            # only a mark: an exception in a callback would be logged and go no further
            self._timer = asyncio.get_running_loop().call_at(due, self._due.set)

    def _ask_all_due(self) -> None:
        now = asyncio.get_running_loop().time()
        for watch in list(self._watches.values()):
            for track in watch.tracks:
                if not track.in_flight and track.due <= now + _BATCH_SECONDS:
                    track.in_flight = True
                    try:
                        self._ask(watch, track)
                    except OSError as error:  # no descriptor is left, say
                        self._result(watch, track, False, refusal(error))
        self._arm()

    def _result(self, watch: _Watch, track: Track, passed: bool, reason: str) -> None:
        """Take the result of one probe; at most one of a track is ever in flight."""
        if self._watches.get(watch.target.replica) is not watch:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        track.in_flight = False
        is_first = passed and track.role is Role.READY and not watch.inspected
        if is_first:
            # the dot turns green only when the listener is the replica's own
            track.in_flight = True
            self._spawn(watch, self._inspect(watch, track))
            return
        changed = track.note(passed, reason)
        expensive = isinstance(track.check.probe, ExecProbe | QueryProbe)
        track.due = track.next_due(now, watch.born, expensive=expensive)
        if changed or (track.role is Role.ALIVE and not passed):
            self._tell(watch, track)
        self._arm()

    def _tell(self, watch: _Watch, track: Track) -> None:
        replica = watch.target.replica
        match track.role:
            case Role.STARTUP:
                if track.passing:
                    watch.post(StartupPassed(replica))
                    self._begin_conditions(watch, asyncio.get_running_loop().time())
                else:
                    watch.post(ReadinessChanged(replica, ready=False, reason=track.reason))
            case Role.READY:
                watch.post(
                    ReadinessChanged(replica, ready=track.passing is True, reason=track.reason)
                )
            case Role.ALIVE:
                if track.has_failed_enough:
                    self._spawn(watch, self._report_death(watch, track))

    # ── asking ────────────────────────────────────────────────────────────────────────────────

    def _ask(self, watch: _Watch, track: Track) -> None:
        probe = track.check.probe
        timeout = track.check.timeout_seconds
        match probe:
            case HttpProbe(path, endpoint):
                self._connect(watch, track, endpoint, http_request(path, watch.name))
            case TcpProbe(endpoint):
                self._connect(watch, track, endpoint, None)
            case ListenProbe():
                self._ask_listeners(watch, track)
            case UptimeProbe(seconds):
                age = asyncio.get_running_loop().time() - watch.born
                if age >= seconds or watch.target.was_ready:
                    self._result(watch, track, True, "")
                else:
                    track.in_flight = False
                    track.due = watch.born + seconds
            case LogProbe(pattern):
                found = self._world.log_has(watch.target.replica, watch.target.service, pattern)
                reason = f"no line matches {pattern!r} yet"
                self._result(watch, track, found or track.passing is True, reason)
            case ExecProbe(command):
                self._spawn(watch, self._run(watch, track, command, timeout))
            case QueryProbe():
                if not self._is_awaited(watch, track):
                    self._spawn(watch, self._query(watch, track, timeout))
            case _:
                assert_never(probe)

    def _is_awaited(self, watch: _Watch, track: Track) -> bool:
        """Whether a server that starts does not listen yet: looked at often, since it costs little.

        A query costs a driver's connection and is asked a few times a second; without this look a
        server that listens would wait for the next one.
        """
        if track.passing or watch.answered:
            return False
        silent = [one for one in watch.addresses.values() if not is_listened_on(one)]
        if not silent:
            watch.answered = True
            return False
        now = asyncio.get_running_loop().time()
        track.in_flight = False
        track.due = now + FIRST_SECOND_INTERVAL
        if now - watch.born > QUICK_SECONDS and track.note(
            False, f"nothing listens on {silent[0]}"
        ):
            self._tell(watch, track)
        return True

    def _connect(
        self, watch: _Watch, track: Track, endpoint: str | None, request: bytes | None
    ) -> None:
        """Connect to an endpoint, the main one when none is named."""
        name = endpoint if endpoint is not None else next(iter(watch.addresses), "")
        address = watch.addresses.get(name)
        if address is None:
            self._result(watch, track, False, "it has no port to ask")
            return

        def done(passed: bool, reason: str) -> None:
            if not passed and reason.startswith("nothing listens"):
                self._spawn(watch, self._explain_silence(watch, track, name, reason))
            else:
                self._result(watch, track, passed, reason)

        watch.make_room()
        watch.sockets.append(
            SocketProbe(
                asyncio.get_running_loop(), address, request, track.check.timeout_seconds, done
            )
        )

    def _ask_listeners(self, watch: _Watch, track: Track) -> None:
        """Cheap first: does anything listen at all; is it the socket that was found before."""
        for name, literal in watch.addresses.items():
            port = _port(literal)
            inode = watch.inodes.get(port)
            if inode is not None and still_listens(port, inode):
                continue
            if not somebody_listens(port):
                watch.inodes.pop(port, None)
                reason = f"nothing listens on {literal}"
                self._spawn(watch, self._explain_silence(watch, track, name, reason))
                return
            self._spawn(watch, self._look(watch, track, name, literal))
            return
        self._result(watch, track, True, "")

    async def _look(self, watch: _Watch, track: Track, name: str, literal: str) -> None:
        reason = await self._find_listener(watch, name, literal)
        if reason:
            self._result(watch, track, False, reason)
        else:
            self._ask_listeners(watch, track)

    async def _find_listener(self, watch: _Watch, name: str, literal: str) -> str:
        """Find the replica's own listener; why there is none, empty when there is."""
        host, port = literal.rpartition(":")[0], _port(literal)
        own = await self._world.own_pids(watch.target.replica)
        found = look(watch.name, port, host.strip("[]"), own)
        if found.address is None:
            return found.reason
        if found.inode is not None:
            watch.inodes[port] = found.inode
        if found.address != literal:
            watch.addresses[name] = found.address
            watch.post(ReplicaListens(watch.target.replica, tuple(watch.addresses.items())))
        return ""

    async def _explain_silence(self, watch: _Watch, track: Track, name: str, reason: str) -> None:
        """Once a replica is a second old, look whether it listens on another address or port."""
        age = asyncio.get_running_loop().time() - watch.born
        if age > QUICK_SECONDS and not watch.target.service.is_engine:
            own = await self._world.own_pids(watch.target.replica)
            ports = {each: _port(literal) for each, literal in watch.addresses.items()}
            if somebody_listens(ports[name]):
                reason = await self._find_listener(watch, name, watch.addresses[name]) or reason
            else:
                reason = elsewhere(watch.target.service, name, ports, own) or reason
        self._result(watch, track, False, reason)

    async def _inspect(self, watch: _Watch, track: Track) -> None:
        """Before the first green: the listeners are its own; those beyond loopback are named."""
        reason = ""
        if watch.addresses and not watch.target.service.is_engine:
            for name, literal in list(watch.addresses.items()):
                reason = reason or await self._find_listener(watch, name, literal)
        if reason:
            track.in_flight = False
            watch.inspected = False
            changed = track.note(False, reason)
            track.due = asyncio.get_running_loop().time() + 0.2
            if changed:
                self._tell(watch, track)
            self._arm()
            return
        watch.inspected = True
        own = await self._world.own_pids(watch.target.replica)
        if exposed := beyond_loopback(own):
            watch.post(ReplicaWarned(watch.target.replica, exposure(watch.name, exposed)))
        self._result(watch, track, True, "")

    async def _run(self, watch: _Watch, track: Track, command: Command, timeout: float) -> None:
        reason = await self._world.run(watch.target.replica, watch.target.service, command, timeout)
        self._result(watch, track, not reason, reason)

    async def _query(self, watch: _Watch, track: Track, timeout: float) -> None:
        service = watch.target.service
        if service.kind == "gateway":
            reason = await self._world.ask_gateway()
        else:
            loop = asyncio.get_running_loop()
            reason = await loop.run_in_executor(self._threads, self._world.query, service, timeout)
        self._result(watch, track, not reason, reason)

    async def _report_death(self, watch: _Watch, track: Track) -> None:
        """A process that a debugger holds is not dead: a breakpoint is not a crash."""
        own = await self._world.own_pids(watch.target.replica)
        if not any(is_traced(pid) for pid in own):
            watch.post(LivenessFailed(watch.target.replica, track.reason))
        track.bad = 0

    def _spawn(self, watch: _Watch, work: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None, "the prober is asked before it serves"
        task = self._tasks.create_task(work)
        watch.tasks.add(task)
        task.add_done_callback(watch.tasks.discard)


def _port(literal: str) -> int:
    return int(literal.rpartition(":")[2])


def is_traced(pid: int) -> bool:
    """Whether a debugger is attached (proc(5): TracerPid in /proc/PID/status)."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123 - one line of a kernel file
            for line in status:
                if line.startswith("TracerPid:"):
                    return int(line.split()[1]) != 0
    except (OSError, ValueError):
        return False
    return False
