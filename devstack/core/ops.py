"""Ops: instructions, in the imperative, each with the cause a person will read.

`reconcile` plans them, the controller records the intent event that belongs to each
(`intent_of`), and only then runs it.
"""

from dataclasses import dataclass
from typing import assert_never

from devstack.core.events import (
    Event,
    GatewayLoadRequested,
    GatewayShape,
    PrepareCancelRequested,
    PrepareStarted,
    ReplicaDrainRequested,
    ReplicaStartRequested,
    ReplicaStopRequested,
    RoutesRequested,
    WorkloadApplyRequested,
    WorkloadRemoveRequested,
)
from devstack.core.routes import RoutingTable


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the artifact of a revision while older replicas serve."""

    service: str
    revision: str
    cause: str


@dataclass(frozen=True, slots=True)
class CancelPrepare:
    """Kill what makes the artifact of a revision."""

    service: str
    revision: str
    cause: str


@dataclass(frozen=True, slots=True)
class StartReplica:
    """Fill a slot."""

    replica: str
    service: str
    slot: int
    revision: str
    cause: str


@dataclass(frozen=True, slots=True)
class DrainReplica:
    """Wait until a replica that is out of the routing table has no connection left."""

    replica: str
    cause: str


@dataclass(frozen=True, slots=True)
class StopReplica:
    """Ask a replica to end, and kill it after its grace."""

    replica: str
    cause: str
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class SetRoutes:
    """Replace the routing table in NGINX's shared memory."""

    table: RoutingTable
    cause: str


@dataclass(frozen=True, slots=True)
class LoadGateway:
    """Give NGINX a new configuration."""

    shape: GatewayShape
    cause: str


@dataclass(frozen=True, slots=True)
class ApplyWorkload:
    """Tell a cluster which revision is wanted, and how many."""

    service: str
    revision: str
    count: int
    cause: str


@dataclass(frozen=True, slots=True)
class RemoveWorkload:
    """Remove a workload from its cluster."""

    service: str
    cause: str


Op = (
    Prepare
    | CancelPrepare
    | StartReplica
    | DrainReplica
    | StopReplica
    | SetRoutes
    | LoadGateway
    | ApplyWorkload
    | RemoveWorkload
)


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a wanted slot (or a whole service, slot None) is not acted on."""

    service: str
    slot: int | None
    reason: str
    until: float | None = None
    """When it will be tried again by itself (monotonic), where that is known."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, why the rest is not done, and when to look again without an event."""

    ops: tuple[Op, ...] = ()
    holds: tuple[Hold, ...] = ()
    wake_at: float | None = None


def intent_of(op: Op, at: float) -> Event:
    """The event that is recorded before an op runs."""
    match op:
        case Prepare(service, revision, _):
            return PrepareStarted(service, revision, at=at)
        case CancelPrepare(service, revision, cause):
            return PrepareCancelRequested(service, revision, cause, at=at)
        case StartReplica(replica, service, slot, revision, cause):
            return ReplicaStartRequested(replica, service, slot, revision, cause, at=at)
        case DrainReplica(replica, cause):
            return ReplicaDrainRequested(replica, cause, at=at)
        case StopReplica(replica, cause, is_failure):
            return ReplicaStopRequested(replica, cause, is_failure, at=at)
        case SetRoutes(table, _):
            return RoutesRequested(table, at=at)
        case LoadGateway(shape, _):
            return GatewayLoadRequested(shape, at=at)
        case ApplyWorkload(service, revision, count, _):
            return WorkloadApplyRequested(service, revision, count, at=at)
        case RemoveWorkload(service, _):
            return WorkloadRemoveRequested(service, at=at)
    assert_never(op)
