"""Replicas as processes: the `ReplicaRuntime` on the keeper."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devstack.core.blame import refusal
from devstack.core.env import OWN_PREFIX, Variable
from devstack.core.events import Artifact
from devstack.core.model import EngineProgram, Service, Stop
from devstack.keeper import processes
from devstack.keeper.answers import Exit, Process
from devstack.keeper.errors import KeeperRefused, KeeperUnreachable, SpawnError
from devstack.keeper.requests import LogTarget, SpawnSpec, View
from devstack.runtimes.base import (
    ExecPlan,
    PrepareFailed,
    Recovered,
    RecoveredEnd,
    Recovery,
    ReplicaEnd,
    RuntimeUnavailable,
    Started,
    StartFailed,
    StartOrder,
    Stats,
)
from devstack.runtimes.process.hosts import rewrite_hosts
from devstack.runtimes.process.link import KeeperLink, replica_end
from devstack.runtimes.process.programs import CannotLaunch, Programs, Surroundings
from devstack.runtimes.process.stats import read_stats
from devstack.runtimes.process.steps import KeeperSteps
from devstack.steps import Progress


@dataclass(slots=True)
class ProcessRuntime:
    """See the module's docstring. `programs` maps an engine's name, or "source", to its kind."""

    link: KeeperLink
    surroundings: Surroundings
    programs: Mapping[str, Programs]
    folder: Path
    """The checkout's `.devstack`."""
    stack_folder: Path
    tell: Callable[[str, Progress], None]
    notice: Callable[[str, str], None]
    """(service, one line that a person should read)."""
    _replicas: dict[str, Service] = field(default_factory=dict)
    _signals: dict[str, int] = field(default_factory=dict)
    _specs: dict[str, SpawnSpec] = field(default_factory=dict)
    _ports: dict[str, dict[str, int]] = field(default_factory=dict)

    async def prepare(self, service: Service, revision: str) -> Artifact:
        """See `ReplicaRuntime.prepare`."""
        steps = self.steps(service.name, revision)
        try:
            return await self._programs(service).prepare(service, revision, steps)
        except OSError as error:
            raise PrepareFailed(f"cannot prepare {service.name}: {refusal(error)}") from error

    async def source_digest(self, service: Service) -> str:
        """See `ReplicaRuntime.source_digest`."""
        return await self._programs(service).source_digest(service)

    async def start(self, order: StartOrder) -> Started:
        """See `ReplicaRuntime.start`."""
        service = order.service
        programs = self._programs(service)
        try:
            launch = await programs.launch(order, self.steps(service.name, order.revision))
        except CannotLaunch as error:
            programs.release(order.replica)
            raise StartFailed(str(error), permanent=error.permanent) from error
        except OSError as error:
            programs.release(order.replica)
            message = f"cannot start {service.name}: {refusal(error)}"
            raise StartFailed(message, permanent=False) from error
        meta = {
            "service": service.name,
            "slot": order.slot,
            "revision": order.revision,
            "addresses": launch.addresses,
            "cwd": launch.cwd,
        }
        spec = SpawnSpec(
            key=order.replica,
            group=service.name,
            argv=launch.argv,
            env=launch.env,
            cwd=launch.cwd,
            log=self.log_target(service.name, order.replica),
            view=View(hosts=self.surroundings.hosts_file(), as_user=launch.run_as),
            meta=json.dumps(meta),
        )
        for warning in launch.warnings:
            self.notice(service.name, warning)
        self._replicas[order.replica] = service
        self._specs[order.replica] = spec
        self._ports[order.replica] = _ports(launch.addresses)
        if launch.stop_signal is not None:
            self._signals[order.replica] = launch.stop_signal
        try:
            process = await self.link.spawn_replica(spec)
        except SpawnError as error:
            self._forget(order.replica)
            hint = f"\nhint: {error.hint}" if error.hint else ""
            raise StartFailed(
                f"cannot start {service.name}: {error}{hint}", permanent=error.permanent
            ) from error
        except (KeeperUnreachable, KeeperRefused) as error:
            self._forget(order.replica)
            raise RuntimeUnavailable(str(error)) from error
        return Started(process.pid, launch.addresses, process.started_at)

    async def renew_names(self) -> None:
        """Show what runs already the names of a stack file that was applied again."""
        text = self.surroundings.hosts_file()
        if text is None:
            return
        with contextlib.suppress(KeeperUnreachable, KeeperRefused):
            for process in (await self.link.client.list()).processes:
                with contextlib.suppress(OSError):  # it ended, or has no room for more names
                    rewrite_hosts(process.pid, text)

    async def stop(self, replica: str, stop: Stop) -> None:
        """See `ReplicaRuntime.stop`."""
        number = self._signals.get(replica) or signal.Signals[f"SIG{stop.signal}"].value
        await self.link.stop(replica, number, stop.grace_seconds)

    async def ends(self) -> AsyncIterator[ReplicaEnd]:
        """See `ReplicaRuntime.ends`."""
        async for end in self.link.ends():
            self._forget(end.replica)
            yield end

    async def recover(self) -> Recovery:
        """Replicas of an earlier controller, and ends that nobody acknowledged."""
        try:
            listing = await self.link.recover()
        except KeeperUnreachable as error:
            raise RuntimeUnavailable(str(error)) from error
        running = [r for p in listing.processes if (r := _recovered(p)) is not None]
        ended = [end for e in listing.exits if (end := _recovered_end(e)) is not None]
        for process in listing.processes:
            self._recall(process)
        return Recovery(tuple(running), tuple(ended))

    def acknowledge(self) -> None:
        """See `ReplicaRuntime.acknowledge`."""
        self.link.acknowledge()

    def _recall(self, process: Process) -> None:
        """How a replica of an earlier controller was started, for what is run beside it.

        Its environment is asked of the kernel: it holds secrets and is written nowhere. A server that
        overwrites its own gets what the stack gives it.
        """
        found = processes.environment_of(process.pid)
        environment = {os.fsdecode(name): os.fsdecode(value) for name, value in found.items()}
        meta = _meta(process)
        if "PATH" not in environment or "cwd" not in meta:
            return
        self._specs[process.key] = SpawnSpec(
            key=process.key,
            group=process.group,
            argv=(),
            env={n: v for n, v in environment.items() if not n.startswith(OWN_PREFIX)},
            cwd=meta["cwd"],
            view=View(hosts=self.surroundings.hosts_file()),
        )

    def remember(self, recovered: Recovered, service: Service) -> None:
        """A recovered replica is looked after like one that was started here."""
        self._replicas[recovered.replica] = service
        self._ports[recovered.replica] = _ports(recovered.addresses)

    def ports_of(self, replica: str) -> Mapping[str, int]:
        """Endpoint name → port of a replica that runs."""
        return self._ports.get(replica, {})

    def beside(self, replica: str, key: str, argv: tuple[str, ...]) -> SpawnSpec | None:
        """A program started as the replica is: its environment, folder and view. None when it is gone."""
        service = self._replicas.get(replica)
        if service is None:
            return None
        spec = self._specs.get(replica)
        if spec is not None:
            return SpawnSpec(
                key=key, group=spec.group, argv=argv, env=spec.env, cwd=spec.cwd, view=spec.view
            )
        variables = self.surroundings.variables(service, self.ports_of(replica))
        return SpawnSpec(
            key=key,
            group=service.name,
            argv=argv,
            env={v.name: v.value for v in variables},
            cwd=str(self.stack_folder),
            view=View(hosts=self.surroundings.hosts_file()),
        )

    async def exec(self, replica: str, command: tuple[str, ...]) -> ExecPlan:
        """The replica's environment and folder; its names through the keeper's own view."""
        spec = self.beside(replica, "", command)
        if spec is None:
            raise RuntimeUnavailable(f"{replica} does not run")
        return ExecPlan(argv=spec.argv, environment=spec.env, cwd=spec.cwd)

    async def stats(self) -> Mapping[str, Stats]:
        """What each replica with all its descendants uses."""
        owned = {name: await self.link.descendants(name) for name in self._replicas}
        return await asyncio.to_thread(
            lambda: {name: read_stats(pids) for name, pids in owned.items()}
        )

    # ── for the engine ────────────────────────────────────────────────────────────────────────

    def steps(self, service: str, revision: str) -> KeeperSteps:
        """Where prepare steps of a service run; their output is its build stream."""
        return KeeperSteps(
            link=self.link,
            service=service,
            revision=revision,
            environment=self.surroundings.shell(),
            folder=self.stack_folder,
            log=self.log_target(service, "build", is_build=True),
            hosts=self.surroundings.hosts_file(),
            tell=self.tell,
        )

    def variables(
        self, service: Service, revision: str, ports: Mapping[str, int]
    ) -> tuple[Variable, ...]:
        """Each variable a replica of a revision has, with its origin. Raises `CannotLaunch`."""
        return self._programs(service).variables(service, revision, ports)

    def log_target(self, service: str, producer: str, *, is_build: bool = False) -> LogTarget:
        """Where output of a replica or of prepare steps goes."""
        return LogTarget(
            folder=str(self.folder / "logs" / service / self.link.run_id),
            name=producer,
            stream="build" if is_build else "output",
        )

    def _programs(self, service: Service) -> Programs:
        if isinstance(service.program, EngineProgram):
            return self.programs[service.program.engine]
        return self.programs["source"]

    def _forget(self, replica: str) -> None:
        service = self._replicas.pop(replica, None)
        self._signals.pop(replica, None)
        self._specs.pop(replica, None)
        self._ports.pop(replica, None)
        if service is not None:
            self._programs(service).release(replica)


def _ports(addresses: tuple[tuple[str, str], ...]) -> dict[str, int]:
    return {name: int(literal.rpartition(":")[2]) for name, literal in addresses}


def _recovered(process: Process) -> Recovered | None:
    """A process of the keeper's list as a replica; None for what is no replica of ours."""
    found = _noted(process)
    if found is None:
        return None
    return replace(
        found,
        pid=process.pid,
        started_at=process.started_at,
        is_stopping=process.is_stopping,
    )


def _recovered_end(exit_: Exit) -> RecoveredEnd | None:
    """An exit of the keeper's list as the end of a replica; None for what was no replica of ours."""
    found = _noted(exit_)
    return RecoveredEnd(found, replica_end(exit_)) if found is not None else None


def _noted(process: Process | Exit) -> Recovered | None:
    meta = _meta(process)
    if not meta:
        return None
    return Recovered(
        replica=process.key,
        service=meta["service"],
        slot=meta["slot"],
        revision=meta["revision"],
        pid=None,
        addresses=tuple((name, literal) for name, literal in meta["addresses"]),
        started_at=0.0,
    )


def _meta(process: Process | Exit) -> dict[str, Any]:
    """What `start` noted about a replica; empty for other processes."""
    try:
        meta = json.loads(process.meta)
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}
