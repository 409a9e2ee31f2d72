"""How replicas end, and in what order: closing, dead, drained, and those that make way."""

from devstack.core.model import Service
from devstack.core.ops import DrainReplica, StopReplica
from devstack.core.rules.draft import Draft
from devstack.core.state import Phase, Replica, State


def stop_in_order(state: State, draft: Draft) -> None:
    """A stack that is closing stops dependents first; nothing is drained."""
    if not state.closing:
        return
    alive = {r.service for r in state.replicas.values()}
    alive |= {name for name, known in state.services.items() if known.workload.exists}
    waiting = {name: sorted(d for d in state.dependents(name) if d in alive) for name in alive}
    for replica in state.replicas.values():
        name = replica.service
        if replica.phase is Phase.STOPPING or replica.observed:
            continue
        if waiting[name]:
            draft.hold(name, replica.slot, f"stops after {', '.join(waiting[name])}")
        elif _is_routed(state, replica) and not state.gateway.routes_error:
            # an NGINX that was found not to answer meanwhile is not waited for
            draft.hold(name, replica.slot, "stops when the gateway routes to nobody")
        else:
            draft.op(replica.id, StopReplica(replica.id, state.closing))


def _is_routed(state: State, replica: Replica) -> bool:
    """Whether NGINX may still send requests to a replica.

    It does by the table in force and the one being set; one that has only started was given a table
    that is not known here.
    """
    service = state.definition(replica.service)
    if not state.gateway_running or service is None or not _has_callers(service):
        return False
    if state.gateway.table is None:
        return True
    tables = (state.gateway.table, state.gateway.setting)
    return any(
        target.replica == replica.id
        for table in tables
        if table is not None
        for targets in table.ready.values()
        for target in targets
    )


def _has_callers(service: Service) -> bool:
    """Whether NGINX dials it for others."""
    return bool(service.endpoints) and not service.is_engine


def stop_the_dead(state: State, draft: Draft) -> None:
    """A replica whose liveness failed is stopped; that counts as a failure of its own."""
    if state.closing:
        return
    for replica in state.replicas.values():
        if not replica.alive and replica.phase is not Phase.STOPPING:
            cause = f"liveness probe failed: {replica.reason}"
            stop = StopReplica(replica.id, cause, is_failure=replica.is_current)
            draft.op(replica.id, stop)


def stop_the_drained(state: State, draft: Draft) -> None:
    """A draining replica is stopped when nobody is connected, or nobody can be."""
    if state.closing:
        return
    for replica in state.replicas.values():
        if replica.phase is Phase.STOPPING or not replica.draining:
            continue
        if replica.drained or not state.gateway_running:
            draft.op(replica.id, StopReplica(replica.id, replica.stop_cause))


def retire(state: State, draft: Draft) -> None:
    """What leaves is drained once the table in force is without it; what had no callers is stopped.

    An NGINX that takes no table again and again is not waited for: it finds another replica for what
    it sends to one that is gone.
    """
    for replica_id, cause in draft.leaving.items():
        replica = state.replicas[replica_id]
        service = state.definition(replica.service)
        if service is None or not _needs_drain(state, service, replica):
            draft.op(replica_id, StopReplica(replica_id, cause))
        elif _is_routed(state, replica) and not state.gateway.is_deaf:
            error = f": {state.gateway.routes_error}" if state.gateway.routes_error else ""
            reason = f"{replica_id} leaves the routing table first{error}"
            draft.hold(replica.service, replica.slot, reason)
        else:
            draft.op(replica_id, DrainReplica(replica_id, cause))


def _needs_drain(state: State, service: Service, replica: Replica) -> bool:
    return _has_callers(service) and replica.was_ready and state.gateway_running
