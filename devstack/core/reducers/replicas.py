"""The life of a replica up to its end; phases move forward only."""

import math
from dataclasses import replace
from typing import Any

from devstack.core import events as e
from devstack.core import policy
from devstack.core.events import Attempts
from devstack.core.reducers.edit import (
    add_warning,
    edit_replica,
    edit_service,
    edit_slot,
    with_item,
    without,
)
from devstack.core.state import (
    Phase,
    Replica,
    State,
)


def replica_start_requested(state: State, event: e.ReplicaStartRequested) -> State:
    slot = state.of(event.service).slot(event.slot)
    fresh: dict[str, Any] = {}
    if event.revision == state.of(event.service).desired != slot.newest.revision:
        fresh = {"newest": Attempts()}
        if slot.newest.revision is not None:
            # it may stand in again while the new one fails, and waits for its own
            fresh["older"] = slot.newest
    state = edit_slot(state, event.service, event.slot, started=slot.started + 1, **fresh)
    replica = Replica(
        id=event.replica,
        service=event.service,
        slot=event.slot,
        revision=event.revision,
        phase=Phase.STARTING,
        cause=event.cause,
        requested_at=event.at,
    )
    return replace(state, replicas=with_item(state.replicas, event.replica, replica))


def replica_spawned(state: State, event: e.ReplicaSpawned) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    advance = replica.phase is Phase.STARTING and not event.has_startup_probe
    return edit_replica(
        state,
        replica,
        pid=event.pid,
        spawned=True,
        addresses=event.addresses,
        started_at=event.started_at,
        phase=Phase.RUNNING if advance else replica.phase,
    )


def replica_adopted(state: State, event: e.ReplicaAdopted) -> State:
    if event.replica in state.replicas:
        return state
    known = state.of(event.service)
    standing = known.standings.get(event.replica, e.Standing())
    is_stopping = standing.stopping or event.is_stopping
    is_leaving = is_stopping or standing.draining
    replica = Replica(
        id=event.replica,
        service=event.service,
        slot=event.slot,
        revision=event.revision,
        phase=Phase.STOPPING if is_stopping else _phase_reached(state, event.service, standing),
        cause="adopted",
        ready=standing.ready and not is_stopping,
        was_ready=standing.was_ready,
        pid=event.pid,
        spawned=True,
        addresses=event.addresses,
        requested_at=event.at if standing.requested_at is None else standing.requested_at,
        ready_at=standing.ready_at,
        started_at=event.started_at,
        draining=standing.draining,
        drained=standing.drained,
        stop_cause=standing.stop_cause if is_leaving else "",
        stop_is_failure=standing.stop_is_failure and is_stopping,
    )
    state = replace(state, replicas=with_item(state.replicas, replica.id, replica))
    standings = without(known.standings, event.replica)
    state = edit_service(state, event.service, standings=standings)
    if event.slot is not None:
        number = int(event.replica.rpartition("#")[2] or 0)
        started = state.of(event.service).slot(event.slot).started
        state = edit_slot(state, event.service, event.slot, started=max(started, number))
    return state


def _phase_reached(state: State, name: str, standing: e.Standing) -> Phase:
    """Whether a startup probe still holds a replica back; one never heard of is asked again."""
    service = state.definition(name)
    is_held = service is not None and service.startup is not None and not standing.startup_passed
    return Phase.STARTING if is_held else Phase.RUNNING


def startup_passed(state: State, event: e.StartupPassed) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None or replica.phase is not Phase.STARTING:
        return state
    return edit_replica(state, replica, phase=Phase.RUNNING)


def readiness_changed(state: State, event: e.ReadinessChanged) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None or replica.phase is Phase.STOPPING:
        return state
    changed = replica.ready != event.ready
    if changed and not event.ready:
        state = _reset_after_good_life(state, replica, event.at)
    state = edit_replica(
        state,
        replica,
        ready=event.ready,
        was_ready=replica.was_ready or event.ready,
        ready_at=(event.at if event.ready else None) if changed else replica.ready_at,
        reason="" if event.ready else event.reason,
    )
    if not changed:
        return state
    service = state.of(replica.service)
    if replica.was_ready and not _is_echo(state, replica.service, event.at):
        recent = tuple(
            at
            for at in (*service.ready_changes, event.at)
            if event.at - at <= policy.FLAPPING_WINDOW_SECONDS
        )
        state = edit_service(state, replica.service, ready_changes=recent)
    if event.ready and replica.revision == service.desired:
        state = edit_service(
            state,
            replica.service,
            good=service.desired,
            good_artifact=service.artifact,
            rollout_error=None,
        )
    return state


def _is_echo(state: State, name: str, at: float) -> bool:
    """Whether anything that a service needs, be it through others, came or went lately.

    Stopped by somebody or crashed: it is told of that one, and its dependents did nothing wrong.
    """
    needed: set[str] = set()
    ahead = {name}
    while ahead:
        service = state.definition(ahead.pop())
        direct = {d.service for d in service.depends_on} if service is not None else set()
        ahead |= direct - needed
        needed |= direct
    return any(at - _came_or_went_at(state, other) <= policy.ECHO_SECONDS for other in needed)


def _came_or_went_at(state: State, name: str) -> float:
    since = state.of(name).waiting_since
    if since is not None:
        return since
    ready = [r.ready_at for r in state.replicas_of(name) if r.is_serving and r.ready_at is not None]
    return max(ready, default=-math.inf)


def _reset_after_good_life(state: State, replica: Replica, at: float) -> State:
    """A replica that was ready long enough has made good for the failures before it."""
    ready_at = replica.ready_at
    if replica.slot is None or ready_at is None:
        return state
    slot = state.of(replica.service).slot(replica.slot)
    if at - ready_at < policy.RESET_AFTER_READY_SECONDS or slot.newest.revision != replica.revision:
        return state
    newest = replace(slot.newest, failures=0)
    return edit_slot(state, replica.service, replica.slot, newest=newest)


def replica_listens(state: State, event: e.ReplicaListens) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    return edit_replica(state, replica, addresses=event.addresses)


def liveness_failed(state: State, event: e.LivenessFailed) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None or replica.phase is Phase.STOPPING:
        return state
    return edit_replica(state, replica, alive=False, reason=event.reason)


def replica_warned(state: State, event: e.ReplicaWarned) -> State:
    replica = state.replicas.get(event.replica)
    return state if replica is None else add_warning(state, replica.service, event.message)


def replica_drain_requested(state: State, event: e.ReplicaDrainRequested) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None or replica.phase is Phase.STOPPING:
        return state
    return edit_replica(state, replica, draining=True, stop_cause=event.cause)


def replica_drained(state: State, event: e.ReplicaDrained) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None or not replica.draining:
        return state
    return edit_replica(state, replica, drained=True)


def replica_stop_requested(state: State, event: e.ReplicaStopRequested) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    return edit_replica(
        state,
        replica,
        phase=Phase.STOPPING,
        ready=False,
        stop_cause=event.cause,
        stop_is_failure=event.is_failure,
    )
