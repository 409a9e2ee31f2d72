"""`reduce(state, event) -> State`: the one door through which State changes.

Each event has one small function. An event about a replica that is gone changes nothing (law 5), nor
does one that would move a phase backwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from devstack.core import events as e
from devstack.core import policy
from devstack.core.model import GATEWAY, Restart, Service
from devstack.core.state import (
    GatewayState,
    Override,
    Phase,
    Replica,
    ServiceState,
    Slot,
    State,
    Workload,
)

K = TypeVar("K")
V = TypeVar("V")


def reduce(state: State, event: e.Event) -> State:
    """The state after an event."""
    return _note_waiting(_forget_removed(_REDUCERS[type(event)](state, event)), event.at)


def _note_waiting(state: State, at: float) -> State:
    """Keep since when each service has had no ready replica."""
    serving = {r.service for r in state.replicas.values() if r.is_serving}
    changed = {
        name: replace(known, waiting_since=None if name in serving else at)
        for name, known in state.services.items()
        if (known.waiting_since is None) != (name in serving)
    }
    return replace(state, services={**state.services, **changed}) if changed else state


def _forget_removed(state: State) -> State:
    """Drop services that left the stack file once nothing of them is left."""
    gone = [
        name
        for name in state.removed
        if not state.replicas_of(name) and not state.of(name).workload.exists
    ]
    if not gone:
        return state
    return replace(
        state,
        removed={n: s for n, s in state.removed.items() if n not in gone},
        services={n: s for n, s in state.services.items() if n not in gone},
    )


# ── small tools ────────────────────────────────────────────────────────────────────────────────


def _with(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    return {**mapping, key: value}


def _without(mapping: Mapping[K, V], key: K) -> Mapping[K, V]:
    return {k: v for k, v in mapping.items() if k != key}


def _service(state: State, name: str, **changes: Any) -> State:
    changed = replace(state.of(name), **changes)
    return replace(state, services=_with(state.services, name, changed))


def _slot(state: State, name: str, index: int, **changes: Any) -> State:
    service = state.of(name)
    slot = replace(service.slot(index), **changes)
    return _service(state, name, slots=_with(service.slots, index, slot))


def _replica(state: State, replica: Replica, **changes: Any) -> State:
    changed = replace(replica, **changes)
    return replace(state, replicas=_with(state.replicas, replica.id, changed))


def _workload(state: State, name: str, **changes: Any) -> State:
    return _service(state, name, workload=replace(state.of(name).workload, **changes))


def _forget_failures(service: ServiceState) -> ServiceState:
    """A person asked again: whatever was given up is tried anew, at once."""
    slots = {
        index: replace(slot, failures=0, retry_at=0.0, blocked="", finished=False)
        for index, slot in service.slots.items()
    }
    workload = replace(service.workload, failures=0, retry_at=0.0, error="", blocked=False)
    return replace(service, slots=slots, prepare_error=None, rollout_error=None, workload=workload)


# ── what people and files ask for ──────────────────────────────────────────────────────────────


def _stack_applied(state: State, event: e.StackApplied) -> State:
    removed = dict(state.removed)
    if state.stack is not None:
        removed |= {
            name: service
            for name, service in state.stack.services.items()
            if name not in event.stack.services
        }
    for name in event.stack.services:
        removed.pop(name, None)
    services = {
        name: _forget_failures(state.of(name)) for name in (*event.stack.services, *removed)
    }
    for name, digest in event.sources:
        if name in services:
            services[name] = replace(services[name], source=digest)
    overrides = {n: o for n, o in state.overrides.items() if n in event.stack.services}
    return replace(
        state,
        stack=event.stack,
        services=services,
        removed=removed,
        overrides=overrides,
        closing="",
        gateway=replace(state.gateway, load_error=None, load_retry_at=0.0, routes_retry_at=0.0),
    )


def _source_changed(state: State, event: e.SourceChanged) -> State:
    return _service(state, event.service, source=event.digest)


def _restart_requested(state: State, event: e.RestartRequested) -> State:
    service = _forget_failures(state.of(event.service))
    service = replace(service, restart_count=service.restart_count + 1)
    override = replace(state.override(event.service), stopped=False)
    return _set_override(
        replace(state, services=_with(state.services, event.service, service)),
        event.service,
        override,
    )


def _set_override(state: State, name: str, override: Override) -> State:
    if override == Override():
        return replace(state, overrides=_without(state.overrides, name))
    return replace(state, overrides=_with(state.overrides, name, override))


def _scale_requested(state: State, event: e.ScaleRequested) -> State:
    override = replace(state.override(event.service), replicas=event.replicas)
    if event.replicas:
        override = replace(override, stopped=False)
    return _set_override(state, event.service, override)


def _stop_requested(state: State, event: e.StopRequested) -> State:
    return _set_override(state, event.service, replace(state.override(event.service), stopped=True))


def _start_requested(state: State, event: e.StartRequested) -> State:
    service = _forget_failures(state.of(event.service))
    return _set_override(
        replace(state, services=_with(state.services, event.service, service)),
        event.service,
        replace(state.override(event.service), stopped=False),
    )


def _down_requested(state: State, event: e.DownRequested) -> State:
    return replace(state, closing=event.cause)


# ── prepare ────────────────────────────────────────────────────────────────────────────────────


def _prepare_started(state: State, event: e.PrepareStarted) -> State:
    return _service(state, event.service, preparing=event.revision, prepare_error=None)


def _prepare_succeeded(state: State, event: e.PrepareSucceeded) -> State:
    service = state.of(event.service)
    if service.preparing != event.revision:
        return state
    if state.wanted_revision(event.service) != event.revision:
        # something newer is wanted meanwhile: only what was prepared last becomes desired
        return _service(state, event.service, preparing=None)
    return _service(
        state,
        event.service,
        preparing=None,
        prepare_error=None,
        rollout_error=None,
        desired=event.revision,
        artifact=event.artifact,
    )


def _prepare_failed(state: State, event: e.PrepareFailed) -> State:
    if state.of(event.service).preparing != event.revision:
        return state
    return _service(
        state, event.service, preparing=None, prepare_error=(event.revision, event.message)
    )


def _prepare_abandoned(state: State, event: e.PrepareAbandoned) -> State:
    if state.of(event.service).preparing != event.revision:
        return state
    return _service(state, event.service, preparing=None)


def _data_reset(state: State, event: e.DataReset) -> State:
    return _service(
        state, event.service, desired=None, artifact=None, good=None, good_artifact=None
    )


# ── replicas ───────────────────────────────────────────────────────────────────────────────────


def _replica_start_requested(state: State, event: e.ReplicaStartRequested) -> State:
    slot = state.of(event.service).slot(event.slot)
    fresh: dict[str, Any] = {}
    if slot.failed_revision != event.revision:
        fresh = {"failures": 0, "failed_revision": None, "blocked": "", "finished": False}
    state = _slot(state, event.service, event.slot, started=slot.started + 1, **fresh)
    replica = Replica(
        id=event.replica,
        service=event.service,
        slot=event.slot,
        revision=event.revision,
        phase=Phase.STARTING,
        cause=event.cause,
        requested_at=event.at,
    )
    return replace(state, replicas=_with(state.replicas, event.replica, replica))


def _replica_spawned(state: State, event: e.ReplicaSpawned) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    advance = replica.phase is Phase.STARTING and not event.has_startup_probe
    return _replica(
        state,
        replica,
        pid=event.pid,
        spawned=True,
        addresses=event.addresses,
        started_at=event.started_at,
        phase=Phase.RUNNING if advance else replica.phase,
    )


def _replica_start_failed(state: State, event: e.ReplicaStartFailed) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    state = replace(state, replicas=_without(state.replicas, replica.id))
    if replica.slot is None:
        return state
    slot = state.of(replica.service).slot(replica.slot)
    failures = slot.failures + 1
    return _slot(
        state,
        replica.service,
        replica.slot,
        failures=failures,
        failed_revision=replica.revision,
        retry_at=event.at + policy.restart_delay(failures, event.jitter),
        last_exit=e.Exit(code=None, message=event.message),
        blocked=event.message if event.permanent else "",
    )


def _replica_start_skipped(state: State, event: e.ReplicaStartSkipped) -> State:
    return replace(state, replicas=_without(state.replicas, event.replica))


def _replica_adopted(state: State, event: e.ReplicaAdopted) -> State:
    if event.replica in state.replicas:
        return state
    replica = Replica(
        id=event.replica,
        service=event.service,
        slot=event.slot,
        revision=event.revision,
        phase=Phase.RUNNING,
        cause="adopted",
        ready=event.ready,
        was_ready=event.ready,
        ready_at=event.at if event.ready else None,
        pid=event.pid,
        spawned=True,
        addresses=event.addresses,
        requested_at=event.at,
        started_at=event.started_at,
    )
    state = replace(state, replicas=_with(state.replicas, replica.id, replica))
    if event.slot is not None:
        number = int(event.replica.rpartition("#")[2] or 0)
        known = state.of(event.service).slot(event.slot).started
        state = _slot(state, event.service, event.slot, started=max(known, number))
    return state


def _startup_passed(state: State, event: e.StartupPassed) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None or replica.phase is not Phase.STARTING:
        return state
    return _replica(state, replica, phase=Phase.RUNNING)


def _readiness_changed(state: State, event: e.ReadinessChanged) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None or replica.phase is Phase.STOPPING:
        return state
    changed = replica.ready != event.ready
    state = _replica(
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
    if replica.was_ready:
        recent = tuple(
            at
            for at in (*service.ready_changes, event.at)
            if event.at - at <= policy.FLAPPING_WINDOW_SECONDS
        )
        state = _service(state, replica.service, ready_changes=recent)
    if event.ready and replica.revision == service.desired:
        state = _service(
            state,
            replica.service,
            good=service.desired,
            good_artifact=service.artifact,
            rollout_error=None,
        )
    return state


def _replica_listens(state: State, event: e.ReplicaListens) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    return _replica(state, replica, addresses=event.addresses)


def _liveness_failed(state: State, event: e.LivenessFailed) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None or replica.phase is Phase.STOPPING:
        return state
    return _replica(state, replica, alive=False, reason=event.reason)


def _replica_warned(state: State, event: e.ReplicaWarned) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    warnings = state.of(replica.service).warnings
    if event.message in warnings:
        return state
    return _service(state, replica.service, warnings=(*warnings, event.message)[-5:])


def _replica_drain_requested(state: State, event: e.ReplicaDrainRequested) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None or replica.phase is Phase.STOPPING:
        return state
    return _replica(state, replica, draining=True, stop_cause=event.cause)


def _replica_drained(state: State, event: e.ReplicaDrained) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None or not replica.draining:
        return state
    return _replica(state, replica, drained=True)


def _replica_stop_requested(state: State, event: e.ReplicaStopRequested) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    return _replica(
        state,
        replica,
        phase=Phase.STOPPING,
        ready=False,
        stop_cause=event.cause,
        stop_is_failure=event.is_failure,
    )


def _replica_exited(state: State, event: e.ReplicaExited) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    state = replace(state, replicas=_without(state.replicas, replica.id))
    if replica.service == GATEWAY:
        state = replace(state, gateway=GatewayState(warnings=state.gateway.warnings))
    if replica.slot is None:
        return state
    service = state.of(replica.service)
    slot = service.slot(replica.slot)
    if event.is_loss:
        return _slot(state, replica.service, replica.slot, last_exit=event.exit, retry_at=0.0)
    requested = replica.phase is Phase.STOPPING and not replica.stop_is_failure
    definition = state.definition(replica.service)
    if definition is not None and definition.is_job and not requested:
        if event.exit.is_success:
            key = state.job_key(replica.service)
            done = service.completed | ({key} if key is not None else set())
            state = _service(state, replica.service, completed=done)
            return _slot(
                state, replica.service, replica.slot, last_exit=event.exit, failures=0, blocked=""
            )
        return _slot(
            state,
            replica.service,
            replica.slot,
            last_exit=event.exit,
            failures=slot.failures + 1,
            failed_revision=replica.revision,
            blocked=f"{replica.service} {event.exit}",
        )
    if requested:
        return _slot(state, replica.service, replica.slot, last_exit=event.exit)
    ended = _ended_for_good(definition, event.exit)
    if ended:
        return _slot(
            state,
            replica.service,
            replica.slot,
            last_exit=event.exit,
            failed_revision=replica.revision,
            failures=0 if event.exit.is_success else slot.failures + 1,
            finished=event.exit.is_success,
            blocked="" if event.exit.is_success else f"{replica.service} {event.exit}",
        )
    # was it ready long enough to count as a good life?
    good_life = (
        replica.ready_at is not None
        and event.at - replica.ready_at >= policy.RESET_AFTER_READY_SECONDS
    )
    failures = (0 if good_life else slot.failures) + 1
    exit_ = event.exit
    if replica.stop_is_failure and replica.stop_cause and not exit_.message:
        exit_ = replace(exit_, message=replica.stop_cause)
    state = _slot(
        state,
        replica.service,
        replica.slot,
        failures=failures,
        failed_revision=replica.revision,
        retry_at=event.at + policy.restart_delay(failures, event.jitter),
        last_exit=exit_,
    )
    if (
        replica.revision == service.desired
        and not replica.was_ready
        and service.good != service.desired
    ):
        state = _service(state, replica.service, rollout_error=(replica.revision, _summary(exit_)))
    return state


def _ended_for_good(definition: Service | None, exit_: e.Exit) -> bool:
    """Whether the restart policy leaves the slot empty after this end."""
    if definition is None:
        return False
    match definition.restart:
        case Restart.ALWAYS:
            return False
        case Restart.ON_FAILURE:
            return exit_.is_success
        case Restart.NEVER:
            return True


def _summary(exit_: e.Exit) -> str:
    """One line that says why a source does not start: its last words, else how it ended."""
    last = next((line.strip() for line in reversed(exit_.tail) if line.strip()), "")
    return f"{exit_}: {last}" if last else str(exit_)


def _job_recalled(state: State, event: e.JobRecalled) -> State:
    service = state.of(event.service)
    return _service(state, event.service, completed=service.completed | set(event.keys))


# ── gateway ────────────────────────────────────────────────────────────────────────────────────


def _gateway(state: State, **changes: Any) -> State:
    return replace(state, gateway=replace(state.gateway, **changes))


def _routes_requested(state: State, event: e.RoutesRequested) -> State:
    return _gateway(state, setting=event.table)


def _routes_applied(state: State, event: e.RoutesApplied) -> State:
    if state.gateway.setting != event.table:
        return state
    return _gateway(state, setting=None, table=event.table, routes_error="")


def _routes_failed(state: State, event: e.RoutesFailed) -> State:
    return _gateway(
        state,
        setting=None,
        routes_error=event.message,
        routes_retry_at=event.at + policy.ROUTES_RETRY_SECONDS,
    )


def _gateway_load_requested(state: State, event: e.GatewayLoadRequested) -> State:
    return _gateway(state, loading=event.shape)


def _gateway_loaded(state: State, event: e.GatewayLoaded) -> State:
    if not state.replicas_of(GATEWAY):
        return state
    return _gateway(
        state, loading=None, loaded=event.shape, load_error=None, warnings=event.warnings
    )


def _gateway_load_failed(state: State, event: e.GatewayLoadFailed) -> State:
    return _gateway(
        state,
        loading=None,
        load_error=(event.shape, event.message),
        load_retry_at=event.at + policy.LOAD_RETRY_SECONDS,
    )


# ── workloads ──────────────────────────────────────────────────────────────────────────────────


def _workload_apply_requested(state: State, event: e.WorkloadApplyRequested) -> State:
    return _workload(
        state, event.service, applying=True, revision=event.revision, count=event.count, exists=True
    )


def _workload_applied(state: State, event: e.WorkloadApplied) -> State:
    state = _workload(state, event.service, applying=False, failures=0, error="")
    service = state.of(event.service)
    if service.desired == event.revision:
        state = _service(state, event.service, good=event.revision, good_artifact=service.artifact)
    return state


def _workload_failed(state: State, event: e.WorkloadFailed) -> State:
    workload = state.of(event.service).workload
    failures = workload.failures + 1
    return _workload(
        state,
        event.service,
        applying=False,
        removing=False,
        count=-1,
        failures=failures,
        retry_at=event.at + policy.restart_delay(failures, event.jitter),
        error=event.message,
        blocked=event.permanent,
    )


def _workload_observed(state: State, event: e.WorkloadObserved) -> State:
    kept = {
        key: r
        for key, r in state.replicas.items()
        if not (r.service == event.service and r.observed)
    }
    workload = state.of(event.service).workload
    if not workload.exists:
        return replace(state, replicas=kept)
    for seen in event.replicas:
        kept[seen.id] = Replica(
            id=seen.id,
            service=event.service,
            slot=None,
            revision=workload.revision,
            phase=Phase.RUNNING,
            ready=seen.ready,
            was_ready=seen.ready,
            reason=seen.reason,
            spawned=True,
            addresses=(("main", seen.address),) if seen.address else (),
            started_at=seen.started_at,
            observed=True,
            restarts=seen.restarts,
        )
    return replace(state, replicas=kept)


def _workload_remove_requested(state: State, event: e.WorkloadRemoveRequested) -> State:
    return _workload(state, event.service, removing=True)


def _workload_removed(state: State, event: e.WorkloadRemoved) -> State:
    state = _service(state, event.service, workload=Workload())
    kept = {k: r for k, r in state.replicas.items() if r.service != event.service}
    return replace(state, replicas=kept)


# ── the machinery ──────────────────────────────────────────────────────────────────────────────


def _runtime_lost(state: State, event: e.RuntimeLost) -> State:
    return replace(state, lost_runtimes=_with(state.lost_runtimes, event.runtime, event.reason))


def _runtime_found(state: State, event: e.RuntimeFound) -> State:
    return replace(state, lost_runtimes=_without(state.lost_runtimes, event.runtime))


def _noted(state: State, event: e.Noted) -> State:
    if event.service is None or event.text in state.of(event.service).warnings:
        return state
    warnings = (*state.of(event.service).warnings, event.text)[-5:]
    return _service(state, event.service, warnings=warnings)


def _restored(state: State, event: e.Restored) -> State:
    slots = {
        index: Slot(started=started, failures=failures, last_exit=last)
        for index, started, failures, last in event.slots
    }
    state = _service(
        state,
        event.service,
        desired=event.desired,
        artifact=event.artifact,
        good=event.good,
        good_artifact=event.good_artifact,
        restart_count=event.restart_count,
        slots=slots,
    )
    return _set_override(
        state, event.service, Override(event.override_replicas, event.override_stopped)
    )


_REDUCERS: Mapping[type[e.Event], Callable[[State, Any], State]] = {
    e.StackApplied: _stack_applied,
    e.SourceChanged: _source_changed,
    e.RestartRequested: _restart_requested,
    e.ScaleRequested: _scale_requested,
    e.StopRequested: _stop_requested,
    e.StartRequested: _start_requested,
    e.DownRequested: _down_requested,
    e.PrepareStarted: _prepare_started,
    e.PrepareSucceeded: _prepare_succeeded,
    e.PrepareFailed: _prepare_failed,
    e.PrepareAbandoned: _prepare_abandoned,
    e.DataReset: _data_reset,
    e.ReplicaStartRequested: _replica_start_requested,
    e.ReplicaSpawned: _replica_spawned,
    e.ReplicaStartFailed: _replica_start_failed,
    e.ReplicaStartSkipped: _replica_start_skipped,
    e.ReplicaAdopted: _replica_adopted,
    e.StartupPassed: _startup_passed,
    e.ReadinessChanged: _readiness_changed,
    e.ReplicaListens: _replica_listens,
    e.LivenessFailed: _liveness_failed,
    e.ReplicaWarned: _replica_warned,
    e.ReplicaDrainRequested: _replica_drain_requested,
    e.ReplicaDrained: _replica_drained,
    e.ReplicaStopRequested: _replica_stop_requested,
    e.ReplicaExited: _replica_exited,
    e.JobRecalled: _job_recalled,
    e.RoutesRequested: _routes_requested,
    e.RoutesApplied: _routes_applied,
    e.RoutesFailed: _routes_failed,
    e.GatewayLoadRequested: _gateway_load_requested,
    e.GatewayLoaded: _gateway_loaded,
    e.GatewayLoadFailed: _gateway_load_failed,
    e.WorkloadApplyRequested: _workload_apply_requested,
    e.WorkloadApplied: _workload_applied,
    e.WorkloadFailed: _workload_failed,
    e.WorkloadObserved: _workload_observed,
    e.WorkloadRemoveRequested: _workload_remove_requested,
    e.WorkloadRemoved: _workload_removed,
    e.RuntimeLost: _runtime_lost,
    e.RuntimeFound: _runtime_found,
    e.Noted: _noted,
    e.Restored: _restored,
}
