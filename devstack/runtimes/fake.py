"""Scripted runtimes of both kinds, shipped with the product: for tests and for trying a stack file.

A service with `run: fake` has a script of words: `ready_after=0.1 exit_after=2 code=1 prepare=fail
start=fail never_ready`. Times are seconds. Replicas are timers; nothing runs.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from devstack.core.events import (
    Artifact,
    Event,
    Exit,
    ObservedReplica,
    ReadinessChanged,
    StartupPassed,
)
from devstack.core.model import FakeProgram, Service, Stop
from devstack.runtimes.base import (
    ExecPlan,
    PrepareFailed,
    Recovery,
    ReplicaEnd,
    RuntimeUnavailable,
    Started,
    StartFailed,
    StartOrder,
    Stats,
)


@dataclass(frozen=True, slots=True)
class Script:
    """What a fake replica does."""

    ready_after: float = 0.0
    exit_after: float | None = None
    code: int = 0
    prepare_fails: bool = False
    start_fails: bool = False
    never_ready: bool = False


def parse_script(text: str) -> Script:
    """Read a script's words. Raises ValueError on an unknown one."""
    ready_after, exit_after, code = 0.0, None, 0
    flags: set[str] = set()
    for word in text.split():
        key, _, value = word.partition("=")
        match key, value:
            case "ready_after", _:
                ready_after = float(value)
            case "exit_after", _:
                exit_after = float(value)
            case "code", _:
                code = int(value)
            case (("prepare" | "start"), "fail"):
                flags.add(key)
            case "never_ready", "":
                flags.add(key)
            case _:
                raise ValueError(f"unknown word '{word}' in the script of a fake service")
    return Script(
        ready_after=ready_after,
        exit_after=exit_after,
        code=code,
        prepare_fails="prepare" in flags,
        start_fails="start" in flags,
        never_ready="never_ready" in flags,
    )


def script_of(service: Service) -> Script:
    """The script in a service's program; the default one for other programs."""
    if isinstance(service.program, FakeProgram):
        return parse_script(service.program.script)
    return Script()


@dataclass(slots=True)
class _Running:
    script: Script
    started: float
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class FakeReplicas:
    """A `ReplicaRuntime` whose replicas are timers."""

    running: dict[str, _Running] = field(default_factory=dict)
    _ends: asyncio.Queue[ReplicaEnd] = field(default_factory=asyncio.Queue)

    async def prepare(self, service: Service, revision: str) -> Artifact:
        if script_of(service).prepare_fails:
            raise PrepareFailed(f"cannot prepare {service.name}: its script says so")
        return Artifact(digest=revision)

    async def source_digest(self, service: Service) -> str:
        return ""

    async def start(self, order: StartOrder) -> Started:
        script = script_of(order.service)
        if script.start_fails:
            raise StartFailed(
                f"cannot start {order.service.name}: its script says so", permanent=True
            )
        running = _Running(script, time.monotonic())
        self.running[order.replica] = running
        if script.exit_after is not None:
            loop = asyncio.get_running_loop()
            end = Exit(code=script.code)
            running.timer = loop.call_later(script.exit_after, self.end, order.replica, end)
        addresses = tuple(
            (endpoint.name, f"127.0.0.1:{endpoint.port}") for endpoint in order.service.endpoints
        )
        return Started(pid=None, addresses=addresses, started_at=time.time())

    def is_ready(self, replica: str) -> bool:
        """What a probe of the replica would find now."""
        running = self.running.get(replica)
        if running is None or running.script.never_ready:
            return False
        return time.monotonic() - running.started >= running.script.ready_after

    def end(self, replica: str, exit_: Exit) -> None:
        """End a replica as if by itself; nothing happens when it is gone."""
        running = self.running.pop(replica, None)
        if running is None:
            return
        if running.timer is not None:
            running.timer.cancel()
        self._ends.put_nowait(ReplicaEnd(replica, replace(exit_, wall=time.time())))

    async def stop(self, replica: str, stop: Stop) -> None:
        self.end(replica, Exit(code=None, signal=15))

    async def ends(self) -> AsyncIterator[ReplicaEnd]:
        while True:
            yield await self._ends.get()

    async def recover(self) -> Recovery:
        return Recovery()

    def acknowledge(self) -> None:
        """Nothing outlives a controller here."""

    async def exec(self, replica: str, command: tuple[str, ...]) -> ExecPlan:
        if replica not in self.running:
            raise RuntimeUnavailable(f"{replica} does not run")
        return ExecPlan(argv=("echo", *command))

    async def stats(self) -> Mapping[str, Stats]:
        return {replica: Stats(0.0, 0, 1) for replica in self.running}


@dataclass(slots=True)
class FakeWorkloads:
    """A `WorkloadRuntime` with a cluster made of numbers: it gives replicas names of its own."""

    applied: dict[str, tuple[str, int]] = field(default_factory=dict)
    _pods: dict[str, list[str]] = field(default_factory=dict)
    _born: int = 0
    _changes: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    _scripts: dict[str, Script] = field(default_factory=dict)

    async def prepare(self, service: Service, revision: str) -> Artifact:
        if script_of(service).prepare_fails:
            raise PrepareFailed(f"cannot prepare {service.name}: its script says so")
        return Artifact(digest=revision)

    async def source_digest(self, service: Service) -> str:
        return ""

    async def apply(self, service: Service, revision: str, count: int) -> None:
        script = script_of(service)
        if script.start_fails:
            raise StartFailed(f"cannot start {service.name}: its script says so", permanent=True)
        before = self.applied.get(service.name)
        pods = self._pods.setdefault(service.name, [])
        if before is not None and before[0] != revision:
            pods.clear()
        while len(pods) < count:
            self._born += 1
            pods.append(f"{service.name}-{self._born:05x}")
        del pods[count:]
        self.applied[service.name] = (revision, count)
        self._scripts[service.name] = script
        self._changes.put_nowait(service.name)
        if script.ready_after:
            loop = asyncio.get_running_loop()
            loop.call_later(script.ready_after, self._changes.put_nowait, service.name)

    def kill(self, service: str) -> None:
        """Lose the oldest replica: the cluster itself puts another in its place."""
        pods = self._pods[service]
        del pods[0]
        self._born += 1
        pods.append(f"{service}-{self._born:05x}")
        self._changes.put_nowait(service)

    async def observe(self) -> AsyncIterator[tuple[str, tuple[ObservedReplica, ...]]]:
        while True:
            name = await self._changes.get()
            ready = not self._scripts.get(name, Script()).never_ready
            yield (
                name,
                tuple(ObservedReplica(id=pod, ready=ready) for pod in self._pods.get(name, ())),
            )

    async def remove(self, service: str) -> None:
        self.applied.pop(service, None)
        self._pods.pop(service, None)

    async def exec(self, replica: str, command: tuple[str, ...]) -> ExecPlan:
        if not any(replica in pods for pods in self._pods.values()):
            raise RuntimeUnavailable(f"{replica} does not run")
        return ExecPlan(argv=("echo", *command))


class Watched(Protocol):
    """What the prober must know of a replica."""

    @property
    def replica(self) -> str: ...

    @property
    def service(self) -> Service: ...


class FakeProber:
    """Asks fake replicas; a `Prober` of the engine for `run: fake`."""

    LOOK_SECONDS = 0.01

    def __init__(self, replicas: FakeReplicas) -> None:
        self._replicas = replicas
        self._watched: dict[str, tuple[Callable[[Event], None], bool | None]] = {}
        self._has_work = asyncio.Event()

    async def serve(self) -> None:
        """Look at all watched replicas, again and again; sleeps in a stack that has none."""
        while True:
            await self._has_work.wait()
            for replica, (post, known) in list(self._watched.items()):
                ready = self._replicas.is_ready(replica)
                if ready != known:
                    self._watched[replica] = (post, ready)
                    post(ReadinessChanged(replica, ready=ready, reason="" if ready else "not yet"))
            await asyncio.sleep(self.LOOK_SECONDS)

    def watch(self, target: Watched, post: Callable[[Event], None]) -> None:
        """Begin asking a replica; its startup probe passes at once."""
        if target.service.startup is not None:
            post(StartupPassed(target.replica))
        self._watched[target.replica] = (post, None)
        self._has_work.set()

    def forget(self, replica: str) -> None:
        """Stop asking."""
        self._watched.pop(replica, None)
        if not self._watched:
            self._has_work.clear()
