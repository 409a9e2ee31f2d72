"""Which replicas end, and in what order: closing, surplus, replaced, dead and drained ones."""

from devstack.core.model import Service
from devstack.core.ops import DrainReplica, StopReplica
from devstack.core.rules.draft import Draft
from devstack.core.state import Phase, Replica, State


def leaving(state: State) -> dict[str, str]:
    """Replicas that should make way, and why: surplus ones, and those whose successor is ready."""
    result: dict[str, str] = {}
    if state.closing:
        return result
    for replica in state.replicas.values():
        if replica.observed or replica.slot is None or not replica.is_current:
            continue
        cause = _surplus(state, replica) or _replaced(state, replica)
        if cause:
            result[replica.id] = cause
    return result


def _surplus(state: State, replica: Replica) -> str:
    name = replica.service
    if not state.is_listed(name):
        return f"{name} was removed from the stack file"
    if state.override(name).stopped:
        return f"{name} was stopped"
    count = state.wanted_count(name)
    if replica.slot is not None and replica.slot > count and not _is_job(state, name):
        return f"scaled to {count}"
    return ""


def _replaced(state: State, replica: Replica) -> str:
    desired = state.of(replica.service).desired
    if desired is None or replica.revision == desired or replica.slot is None:
        return ""
    for other in state.on_slot(replica.service, replica.slot):
        if other.revision == desired and other.is_serving:
            return f"replaced by {other.id}"
    return ""


def _is_job(state: State, name: str) -> bool:
    service = state.definition(name)
    return service is not None and service.is_job


def stop_in_order(state: State, draft: Draft) -> None:
    """A stack that is closing stops dependents first; nothing is drained."""
    if not state.closing:
        return
    alive = {r.service for r in state.replicas.values()}
    for name in state.names():
        waiting = sorted(d for d in state.dependents(name) if d in alive)
        for replica in state.replicas_of(name):
            if replica.phase is Phase.STOPPING or replica.observed:
                continue
            if waiting:
                draft.hold(name, replica.slot, f"stops after {', '.join(waiting)}")
            elif is_routed(state, replica) and not state.gateway.routes_error:
                draft.hold(name, replica.slot, "stops when the gateway routes to nobody")
            else:
                draft.op(replica.id, StopReplica(replica.id, state.closing))


def is_routed(state: State, replica: Replica) -> bool:
    """Whether the table in force, or the one being set, still sends requests to a replica."""
    if not state.gateway_running:
        return False
    tables = (state.gateway.table, state.gateway.setting)
    return any(
        target.replica == replica.id
        for table in tables
        if table is not None
        for targets in table.ready.values()
        for target in targets
    )


def stop_the_dead(state: State, draft: Draft) -> None:
    """A replica whose liveness failed is stopped; that counts as a failure of its own."""
    for replica in state.replicas.values():
        if not replica.alive and replica.phase is not Phase.STOPPING:
            cause = f"liveness probe failed: {replica.reason}"
            draft.op(replica.id, StopReplica(replica.id, cause, is_failure=True))


def stop_the_drained(state: State, draft: Draft) -> None:
    """A draining replica is stopped when nobody is connected, or nobody can be."""
    for replica in state.replicas.values():
        if replica.phase is Phase.STOPPING or not replica.draining:
            continue
        if replica.drained or not state.gateway_running or state.closing:
            draft.op(replica.id, StopReplica(replica.id, replica.stop_cause))


def retire(state: State, draft: Draft) -> None:
    """What leaves is drained once the table in force is without it; what had no callers is stopped."""
    for replica_id, cause in leaving(state).items():
        replica = state.replicas[replica_id]
        service = state.definition(replica.service)
        if service is None or not _needs_drain(state, service, replica):
            draft.op(replica_id, StopReplica(replica_id, cause))
        elif is_routed(state, replica):
            draft.hold(
                replica.service, replica.slot, f"{replica_id} leaves the routing table first"
            )
        else:
            draft.op(replica_id, DrainReplica(replica_id, cause))


def _needs_drain(state: State, service: Service, replica: Replica) -> bool:
    has_callers = bool(service.endpoints) and not service.is_engine
    return has_callers and replica.was_ready and state.gateway_running
