"""State: everything the controller knows, as one frozen value; what can be derived is not stored.

Replaced by `reduce` alone. Values that people set on top of the file (`Override`) are kept apart and
merged when read (`wanted_count`), so that loading the file again never loses them.

    replica:   STARTING ──▶ RUNNING ──▶ STOPPING ──▶ (gone)     forward only; ready/alive are conditions
               slot keeps: how many there were, failures in a row, when to try again, the last exit
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from devstack.core import policy
from devstack.core.events import Artifact, GatewayShape, Slot, Standing, Workload
from devstack.core.model import (
    GATEWAY,
    Condition,
    Kind,
    Service,
    Stack,
    config_digest,
)
from devstack.core.routes import RoutingTable


class Phase(StrEnum):
    """How far a replica is; moves forward only."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Replica:
    """One execution in a slot; never restarted."""

    id: str
    service: str
    slot: int | None
    revision: str
    phase: Phase
    cause: str = ""
    ready: bool = False
    was_ready: bool = False
    reason: str = ""
    """Why it is not ready; empty when it is, or when nothing is known yet."""
    pid: int | None = None
    spawned: bool = False
    addresses: tuple[tuple[str, str], ...] = ()
    requested_at: float = 0.0
    ready_at: float | None = None
    """When it became ready, for the reset of the back-off."""
    started_at: float | None = None
    """Unix time."""
    draining: bool = False
    drained: bool = False
    alive: bool = True
    stop_cause: str = ""
    stop_is_failure: bool = False
    observed: bool = False
    """Created by a cluster; devstack only looks at it."""
    restarts: int = 0
    """Counted by the cluster, for observed ones."""

    @property
    def is_current(self) -> bool:
        """Whether it fills its slot: neither ending nor on its way out."""
        return self.phase is not Phase.STOPPING and not self.draining

    @property
    def is_serving(self) -> bool:
        return self.ready and self.is_current and self.alive

    def address(self, endpoint: str | None = None) -> str | None:
        for name, literal in self.addresses:
            if endpoint is None or name == endpoint:
                return literal
        return None


@dataclass(frozen=True, slots=True)
class Override:
    """A user's wish on top of the file."""

    replicas: int | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What is known of one service beyond its replicas."""

    source: str = ""
    restart_count: int = 0
    desired: str | None = None
    """The revision replicas should have: the newest one that is prepared."""
    artifact: Artifact | None = None
    good: str | None = None
    """The last revision that was ready."""
    good_artifact: Artifact | None = None
    preparing: str | None = None
    cancelling: bool = False
    """What is being prepared was asked to end."""
    prepare_error: tuple[str, str] | None = None
    """(revision, message)."""
    rollout_error: tuple[str, str] | None = None
    """(revision, message): the desired revision does not get ready."""
    slots: Mapping[int, Slot] = field(default_factory=dict)
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """Of replicas that an earlier controller had, until they are adopted."""
    waiting_since: float | None = None
    """Since when no replica is ready; None while one is."""
    ready_changes: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    completed: frozenset[str] = frozenset()
    """Job: the keys it completed for, earlier runs included."""
    workload: Workload = field(default_factory=Workload)

    def slot(self, index: int) -> Slot:
        return self.slots.get(index, Slot())


@dataclass(frozen=True, slots=True)
class GatewayState:
    """What NGINX was told last, and what it is known to do."""

    loaded: GatewayShape | None = None
    loading: GatewayShape | None = None
    load_error: tuple[GatewayShape, str] | None = None
    load_retry_at: float = 0.0
    warnings: tuple[str, ...] = ()
    table: RoutingTable | None = None
    """The table in force."""
    setting: RoutingTable | None = None
    routes_error: str = ""
    """Why the newest table could not be put in force; empty once one was."""
    routes_failures: int = 0
    """In a row."""
    routes_retry_at: float = 0.0

    @property
    def is_deaf(self) -> bool:
        """Whether it is of no use to wait for a table to be in force."""
        return self.routes_failures >= policy.ROUTES_ATTEMPTS


@dataclass(frozen=True, slots=True)
class State:
    """Everything; see the module's docstring."""

    stack: Stack | None = None
    closing: str = ""
    """Why the whole stack is ending; empty while it is not."""
    services: Mapping[str, ServiceState] = field(default_factory=dict)
    overrides: Mapping[str, Override] = field(default_factory=dict)
    replicas: Mapping[str, Replica] = field(default_factory=dict)
    removed: Mapping[str, Service] = field(default_factory=dict)
    """Services no longer in the file whose replicas or workloads are not gone yet."""
    gateway: GatewayState = GatewayState()
    lost_runtimes: Mapping[str, str] = field(default_factory=dict)

    # ── look-ups ──────────────────────────────────────────────────────────────────────────────

    def definition(self, name: str) -> Service | None:
        """The service as the file has it, or as it was when it was removed from the file."""
        if self.stack is not None and name in self.stack.services:
            return self.stack.services[name]
        return self.removed.get(name)

    def of(self, name: str) -> ServiceState:
        return self.services.get(name, ServiceState())

    def override(self, name: str) -> Override:
        return self.overrides.get(name, Override())

    def replicas_of(self, name: str) -> tuple[Replica, ...]:
        return tuple(r for r in self.replicas.values() if r.service == name)

    def on_slot(self, name: str, slot: int) -> tuple[Replica, ...]:
        return tuple(r for r in self.replicas.values() if r.service == name and r.slot == slot)

    def names(self) -> Iterator[str]:
        """Every service there is, removed ones that still run included."""
        if self.stack is not None:
            yield from self.stack.services
        yield from (name for name in self.removed if name not in self._listed)

    @property
    def _listed(self) -> Mapping[str, Service]:
        return self.stack.services if self.stack is not None else {}

    # ── desired ───────────────────────────────────────────────────────────────────────────────

    def is_listed(self, name: str) -> bool:
        return name in self._listed

    def wanted_count(self, name: str) -> int:
        """How many replicas there should be, overrides merged in."""
        if self.closing or not self.is_listed(name):
            return 0
        service = self._listed[name]
        override = self.override(name)
        if override.stopped:
            return 0
        if service.is_job:
            return 0 if self.is_completed(name) else 1
        return service.replicas if override.replicas is None else override.replicas

    def wanted_revision(self, name: str) -> str | None:
        """The revision of the newest configuration, source and restart counter; None if not listed."""
        service = self._listed.get(name)
        if service is None:
            return None
        state = self.of(name)
        text = f"{config_digest(service)}:{state.source}:{state.restart_count}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    # ── conditions ────────────────────────────────────────────────────────────────────────────

    def ready_count(self, name: str) -> int:
        return sum(1 for r in self.replicas_of(name) if r.is_serving)

    def is_ready(self, name: str) -> bool:
        return self.ready_count(name) > 0

    def is_started(self, name: str) -> bool:
        return any(r.phase is Phase.RUNNING for r in self.replicas_of(name))

    def job_key(self, name: str, revision: str | None = None) -> str | None:
        """What a job has to complete for: its revision (the wanted one) and the data it works on."""
        revision = revision if revision is not None else self.wanted_revision(name)
        service = self._listed.get(name)
        if revision is None or service is None:
            return None
        data: list[str] = []
        for dependency in service.depends_on:
            target = self._listed.get(dependency.service)
            if target is not None and target.kind is Kind.DATABASE:
                artifact = self.of(dependency.service).artifact
                if artifact is None or artifact.data_id is None:
                    return None
                data.append(artifact.data_id)
        return hashlib.sha256(f"{revision}:{':'.join(data)}".encode()).hexdigest()[:12]

    def is_completed(self, name: str) -> bool:
        return self.job_key(name) in self.of(name).completed

    def satisfies(self, name: str, condition: Condition) -> bool:
        """Whether a dependent that waits for this may go on."""
        match condition:
            case Condition.STARTED:
                return self.is_started(name) or self.is_ready(name)
            case Condition.READY:
                return self.is_ready(name) and self.is_reachable(name)
            case Condition.COMPLETED:
                return self.is_completed(name)

    def is_reachable(self, name: str) -> bool:
        """Whether the gateway sends requests for a service to anybody, where it is of use to wait for that.

        A replica is ready some milliseconds before the table with it is in force; who dials it by
        its name in that time is told that nobody is there.
        """
        service, gateway = self.definition(name), self.gateway
        if service is None or not service.is_balanced or not self.gateway_running:
            return True
        if gateway.is_deaf or gateway.load_error is not None:
            return True
        names = [endpoint.name for endpoint in service.balanced_endpoints]
        serving = [replica for replica in self.replicas_of(name) if replica.is_serving]
        if not any(replica.address(each) for replica in serving for each in names):
            return True
        keys = gateway.table.ready if gateway.table is not None else ()
        return any(key.partition(".")[0] == name for key in keys)

    @property
    def gateway_running(self) -> bool:
        """Whether NGINX takes requests, so that draining means anything."""
        return self.gateway.loaded is not None and any(
            r.is_current and r.spawned for r in self.replicas_of(GATEWAY)
        )

    def owns_replicas(self, name: str) -> bool:
        service = self.definition(name)
        return service is not None and service.runtime.owns_replicas

    def dependents(self, name: str) -> Iterator[str]:
        """Services that say they need this one; balanced ones need the gateway."""
        for other in self.names():
            service = self.definition(other)
            if service is None or other == name:
                continue
            if any(d.service == name for d in service.depends_on) or (
                name == GATEWAY and service.is_balanced
            ):
                yield other

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs and nothing is under way: a stack that is closing is down."""
        return not self.replicas and not any(
            s.preparing is not None
            or s.workload.exists
            or s.workload.applying
            or s.workload.removing
            for s in self.services.values()
        )


def is_flapping(changes: tuple[float, ...], now: float) -> bool:
    """Whether readiness changed too often lately."""
    recent = [at for at in changes if now - at <= policy.FLAPPING_WINDOW_SECONDS]
    return len(recent) >= policy.FLAPPING_CHANGES
