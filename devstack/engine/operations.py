"""Running ops: each becomes calls of a runtime, the gateway or a prober, and ends in events.

No policy here: what to do was decided. Expected failures are turned into events with the message a
person will read; anything else is a bug and passes through to end the controller.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from devstack.core import events as e
from devstack.core.events import Artifact, Event, GatewayShape
from devstack.core.model import GATEWAY, Check, RuntimeName, Service
from devstack.core.ops import (
    ApplyWorkload,
    CancelPrepare,
    DrainReplica,
    LoadGateway,
    Op,
    Prepare,
    RemoveWorkload,
    SetRoutes,
    StartReplica,
    StopReplica,
)
from devstack.core.routes import RoutingTable
from devstack.core.state import Phase, State
from devstack.engine.restless import Restless, restless_text
from devstack.runtimes.base import (
    PrepareFailed,
    Recovered,
    ReplicaEnd,
    ReplicaRuntime,
    RuntimeUnavailable,
    StartFailed,
    StartOrder,
    WorkloadRuntime,
)

Post = Callable[[Event], None]


class GatewayFailed(Exception):
    """NGINX could not be told; the message is for people. `is_lost`: it never can be again."""

    def __init__(self, message: str, *, is_lost: bool = False) -> None:
        super().__init__(message)
        self.is_lost = is_lost


class GatewayDriver(Protocol):
    """The gateway as ops see it."""

    async def confirm(self, replica: str, pid: int) -> tuple[GatewayShape, tuple[str, ...]]:
        """Wait until a started NGINX serves: what it loaded, and warnings. Raises `GatewayFailed`."""
        ...

    async def set_routes(self, table: RoutingTable) -> None:
        """Put a table in force. Raises `GatewayFailed`."""
        ...

    async def load(self, shape: GatewayShape) -> tuple[str, ...]:
        """Load a configuration and confirm it; returns warnings. Raises `GatewayFailed`."""
        ...

    async def wait_drained(self, addresses: tuple[str, ...], grace_seconds: float) -> None:
        """Return when no connection to the addresses is left, or the grace is over."""
        ...


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A replica to be asked, and how."""

    replica: str
    service: Service
    addresses: Mapping[str, str]
    pid: int | None
    started: bool = False
    """Its startup probe has passed under an earlier controller."""
    was_ready: bool = False
    """It was ready when that one was last heard of."""

    @property
    def ready(self) -> Check:
        return self.service.ready


TURNS_TO_START = 8
"""Turns of the loop between a preparation that finds everything in place and the start of its replica."""


class Prober(Protocol):
    """Asks replicas and posts `StartupPassed`, `ReadinessChanged`, `LivenessFailed`, `ReplicaWarned`."""

    async def serve(self) -> None:
        """Own whatever runs for probes, until cancelled."""
        ...

    def watch(self, target: ProbeTarget, post: Post) -> None:
        """Begin asking a replica."""
        ...

    def forget(self, replica: str) -> None:
        """Stop asking; nothing about the replica is posted afterwards."""
        ...


@dataclass(slots=True)
class Operations:
    """What ops are run with."""

    replicas: Mapping[RuntimeName, ReplicaRuntime]
    workloads: Mapping[RuntimeName, WorkloadRuntime] = field(default_factory=dict)
    probers: Mapping[RuntimeName, Prober] = field(default_factory=dict)
    gateway: GatewayDriver | None = None
    jitter: Callable[[], float] = lambda: random.uniform(-1.0, 1.0)  # noqa: S311 - spreads retries, no secret
    on_end: Callable[[ReplicaEnd], ReplicaEnd] = lambda end: end
    """Adds what only the engine knows to an end: the last lines of the log, a stolen port."""
    _making: dict[str, asyncio.Task[Event]] = field(default_factory=dict)
    """Preparations under way, by service."""
    _starting: dict[str, asyncio.Event] = field(default_factory=dict)
    """Starts under way: a stop of the same replica waits for them."""
    _ended: set[str] = field(default_factory=set)
    """Replicas that ended while their start was under way: nothing more is done about them."""
    _restless: Restless = field(default_factory=Restless)

    async def listen(self, post: Post) -> None:
        """Turn what runtimes report into events, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for name, replicas in self.replicas.items():
                tasks.create_task(self._listen_ends(name, replicas, post))
            for workloads in self.workloads.values():
                tasks.create_task(_listen_observed(workloads, post))
            for prober in self.probers.values():
                tasks.create_task(prober.serve())

    async def _listen_ends(self, name: RuntimeName, runtime: ReplicaRuntime, post: Post) -> None:
        async for end in runtime.ends():
            self.tell_end(name, end, post)

    def tell_end(self, runtime: RuntimeName, end: ReplicaEnd, post: Post) -> None:
        """Post the end of a replica."""
        if end.replica in self._starting:
            self._ended.add(end.replica)
        prober = self.probers.get(runtime)
        if prober is not None:
            prober.forget(end.replica)
        for daemon in end.left_behind:
            post(e.ReplicaWarned(end.replica, f"left {daemon} behind, which was ended"))
        end = self.on_end(end)
        post(e.ReplicaExited(end.replica, end.exit, jitter=self.jitter(), is_loss=end.is_loss))

    async def run(self, op: Op, state: State, post: Post) -> None:
        """Run one op to its end; `state` is the State its intent led to."""
        match op:
            case Prepare(service, revision, _):
                await self._prepare(state, service, revision, post)
            case CancelPrepare(service, _, _):
                if service in self._making:
                    self._making[service].cancel()
            case StartReplica():
                done = self._starting[op.replica] = asyncio.Event()
                try:
                    await self._start(state, op, post)
                finally:
                    del self._starting[op.replica]
                    self._ended.discard(op.replica)
                    done.set()
            case DrainReplica(replica, _):
                await self._drain(state, replica, post)
            case StopReplica(replica, _, _):
                await self._stop(state, replica)
            case SetRoutes(table, _):
                await self._set_routes(state, table, post)
            case LoadGateway(shape, _):
                await self._load(shape, post)
            case ApplyWorkload(service, revision, count, _):
                await self._apply(state, service, revision, count, post)
            case RemoveWorkload(service, _):
                await self._remove(state, service, post)
            case _:
                assert_never(op)

    # ── preparing and replicas ────────────────────────────────────────────────────────────────

    async def _prepare(self, state: State, name: str, revision: str, post: Post) -> None:
        """In a task of its own: it can be cancelled, and that is told once nothing of it runs."""
        async with asyncio.TaskGroup() as tasks:
            making = tasks.create_task(self._make(state, name, revision))
            self._making[name] = making
        del self._making[name]
        post(e.PrepareAbandoned(name, revision) if making.cancelled() else making.result())

    async def _make(self, state: State, name: str, revision: str) -> Event:
        service = _definition(state, name)
        runtime = self.replicas.get(service.runtime) or self.workloads[service.runtime]
        if service.depends_on or name == GATEWAY:
            await _let_the_first_start()
        try:
            artifact = await runtime.prepare(service, revision)
        except PrepareFailed as error:
            return e.PrepareFailed(name, revision, str(error))
        except RuntimeUnavailable:
            # the runtime itself tells that it is lost, and when it is back
            return e.PrepareAbandoned(name, revision)
        return e.PrepareSucceeded(name, revision, artifact)

    async def _start(self, state: State, op: StartReplica, post: Post) -> None:
        service = _definition(state, op.service)
        runtime = self.replicas[service.runtime]
        artifact = _artifact(state, op)
        if not artifact.is_compiled:
            digest = await runtime.source_digest(service)
            if digest == state.of(op.service).source:
                self._restless.is_as_prepared(op.service, op.slot)
            elif self._restless.keeps_changing(op.service, op.slot, digest):
                told = await asyncio.to_thread(restless_text, service)
                post(e.ReplicaWarned(op.replica, told))
            else:
                post(e.SourceChanged(op.service, digest, found_at_start=True))
                post(e.ReplicaStartSkipped(op.replica))
                return
        order = StartOrder(op.replica, service, op.slot, op.revision, artifact)
        try:
            started = await runtime.start(order)
        except StartFailed as error:
            post(
                e.ReplicaStartFailed(
                    op.replica, str(error), permanent=error.permanent, jitter=self.jitter()
                )
            )
            return
        except RuntimeUnavailable:
            post(e.ReplicaStartSkipped(op.replica))
            return
        post(
            e.ReplicaSpawned(
                op.replica,
                pid=started.pid,
                addresses=started.addresses,
                started_at=started.started_at,
                has_startup_probe=service.startup is not None,
            )
        )
        if op.service == GATEWAY:
            await self._confirm_gateway(op.replica, started.pid, post)
        if not service.is_job and op.replica not in self._ended:
            target = ProbeTarget(op.replica, service, dict(started.addresses), started.pid)
            self.probers[service.runtime].watch(target, post)

    async def take_up(self, state: State, found: Recovered, post: Post) -> None:
        """Go on with an adopted replica: ask it, or do to its end what was recorded as intended."""
        replica = state.replicas[found.replica]
        service = _definition(state, replica.service)
        if replica.phase is Phase.STOPPING:
            if not found.is_stopping:
                await self._stop(state, replica.id)
            return
        if replica.draining:
            if not replica.drained:
                await self._drain(state, replica.id, post)
            return
        if service.is_job:
            return
        target = ProbeTarget(
            replica.id,
            service,
            dict(replica.addresses),
            replica.pid,
            started=replica.phase is Phase.RUNNING,
            was_ready=replica.ready,
        )
        self.probers[service.runtime].watch(target, post)

    async def _drain(self, state: State, replica_id: str, post: Post) -> None:
        replica = state.replicas[replica_id]
        service = _definition(state, replica.service)
        self.probers[service.runtime].forget(replica_id)
        if self.gateway is not None:
            addresses = tuple(literal for _, literal in replica.addresses)
            await self.gateway.wait_drained(addresses, service.stop.grace_seconds)
        post(e.ReplicaDrained(replica_id))

    async def _stop(self, state: State, replica_id: str) -> None:
        replica = state.replicas[replica_id]
        service = _definition(state, replica.service)
        starting = self._starting.get(replica_id)
        if starting is not None:
            await starting.wait()
        self.probers[service.runtime].forget(replica_id)
        await self.replicas[service.runtime].stop(replica_id, service.stop)

    async def _confirm_gateway(self, replica: str, pid: int | None, post: Post) -> None:
        if self.gateway is None or pid is None:
            return
        try:
            shape, warnings = await self.gateway.confirm(replica, pid)
        except GatewayFailed as error:
            post(e.LivenessFailed(replica, str(error)))
        else:
            if replica not in self._ended:
                post(e.GatewayLoaded(shape, warnings))

    # ── gateway ───────────────────────────────────────────────────────────────────────────────

    async def _set_routes(self, state: State, table: RoutingTable, post: Post) -> None:
        if self.gateway is None:
            post(e.RoutesApplied(table))
            return
        try:
            await self.gateway.set_routes(table)
        except GatewayFailed as error:
            post(e.RoutesFailed(str(error)))
            for replica in state.replicas_of(GATEWAY) if error.is_lost else ():
                post(e.LivenessFailed(replica.id, str(error)))
        else:
            post(e.RoutesApplied(table))

    async def _load(self, shape: GatewayShape, post: Post) -> None:
        if self.gateway is None:
            post(e.GatewayLoaded(shape))
            return
        try:
            warnings = await self.gateway.load(shape)
        except GatewayFailed as error:
            post(e.GatewayLoadFailed(shape, str(error)))
        else:
            post(e.GatewayLoaded(shape, warnings))

    # ── workloads ─────────────────────────────────────────────────────────────────────────────

    async def _apply(self, state: State, name: str, revision: str, count: int, post: Post) -> None:
        service = _definition(state, name)
        try:
            await self.workloads[service.runtime].apply(service, revision, count)
        except StartFailed as error:
            post(
                e.WorkloadFailed(name, str(error), permanent=error.permanent, jitter=self.jitter())
            )
        except RuntimeUnavailable as error:
            post(e.WorkloadFailed(name, str(error), jitter=self.jitter()))
        else:
            post(e.WorkloadApplied(name, revision, count))

    async def _remove(self, state: State, name: str, post: Post) -> None:
        service = _definition(state, name)
        try:
            await self.workloads[service.runtime].remove(name)
        except RuntimeUnavailable as error:
            post(e.WorkloadFailed(name, str(error), jitter=self.jitter()))
        else:
            post(e.WorkloadRemoved(name))


async def _let_the_first_start() -> None:
    """Let what waits for nothing be found prepared, and started, before others keep the loop busy."""
    for _ in range(TURNS_TO_START):
        await asyncio.sleep(0)


async def _listen_observed(runtime: WorkloadRuntime, post: Post) -> None:
    async for service, replicas in runtime.observe():
        post(e.WorkloadObserved(service, replicas))


def _definition(state: State, name: str) -> Service:
    service = state.definition(name)
    assert service is not None, f"an op about {name}, which is not in the stack"
    return service


def _artifact(state: State, op: StartReplica) -> Artifact:
    """The artifact of the revision that is started: the desired one's, or the last good one's."""
    known = state.of(op.service)
    artifact = known.artifact if op.revision == known.desired else known.good_artifact
    assert artifact is not None, f"{op.replica} starts without an artifact"
    return artifact
