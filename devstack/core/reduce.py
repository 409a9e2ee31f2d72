"""`reduce(state, event) -> State`: the one door through which State changes.

Each event has one small function. An event about a replica that is gone changes nothing (law 5), nor
does one that would move a phase backwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from devstack.core import events as e
from devstack.core.events import Slot
from devstack.core.reducers import exits, gateway, machinery, preparing, replicas, wishes, workloads
from devstack.core.state import ServiceState, State


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
    """Drop services that left the stack file once nothing of them is left.

    What outlives them: ids are never used twice in a run, and what a job has done stays done.
    """
    gone = [
        name
        for name in state.removed
        if state.of(name).preparing is None
        and not state.of(name).workload.exists
        and not state.replicas_of(name)
    ]
    if not gone:
        return state
    return replace(
        state,
        removed={n: s for n, s in state.removed.items() if n not in gone},
        services={n: _remains(s) if n in gone else s for n, s in state.services.items()},
    )


def _remains(service: ServiceState) -> ServiceState:
    slots = {index: Slot(started=slot.started) for index, slot in service.slots.items()}
    return ServiceState(slots=slots, completed=service.completed)


_REDUCERS: Mapping[type[e.Event], Callable[[State, Any], State]] = {
    e.StackApplied: wishes.stack_applied,
    e.SourceChanged: wishes.source_changed,
    e.RestartRequested: wishes.restart_requested,
    e.ScaleRequested: wishes.scale_requested,
    e.StopRequested: wishes.stop_requested,
    e.StartRequested: wishes.start_requested,
    e.DownRequested: wishes.down_requested,
    e.PrepareStarted: preparing.prepare_started,
    e.PrepareSucceeded: preparing.prepare_succeeded,
    e.PrepareFailed: preparing.prepare_failed,
    e.PrepareCancelRequested: preparing.prepare_cancel_requested,
    e.PrepareAbandoned: preparing.prepare_abandoned,
    e.DataReset: preparing.data_reset,
    e.ReplicaStartRequested: replicas.replica_start_requested,
    e.ReplicaSpawned: replicas.replica_spawned,
    e.ReplicaStartFailed: exits.replica_start_failed,
    e.ReplicaStartSkipped: exits.replica_start_skipped,
    e.ReplicaAdopted: replicas.replica_adopted,
    e.StartupPassed: replicas.startup_passed,
    e.ReadinessChanged: replicas.readiness_changed,
    e.ReplicaListens: replicas.replica_listens,
    e.LivenessFailed: replicas.liveness_failed,
    e.ReplicaWarned: replicas.replica_warned,
    e.ReplicaDrainRequested: replicas.replica_drain_requested,
    e.ReplicaDrained: replicas.replica_drained,
    e.ReplicaStopRequested: replicas.replica_stop_requested,
    e.ReplicaExited: exits.replica_exited,
    e.JobRecalled: exits.job_recalled,
    e.RoutesRequested: gateway.routes_requested,
    e.RoutesApplied: gateway.routes_applied,
    e.RoutesFailed: gateway.routes_failed,
    e.GatewayLoadRequested: gateway.gateway_load_requested,
    e.GatewayLoaded: gateway.gateway_loaded,
    e.GatewayLoadFailed: gateway.gateway_load_failed,
    e.WorkloadApplyRequested: workloads.workload_apply_requested,
    e.WorkloadApplied: workloads.workload_applied,
    e.WorkloadFailed: workloads.workload_failed,
    e.WorkloadObserved: workloads.workload_observed,
    e.WorkloadRemoveRequested: workloads.workload_remove_requested,
    e.WorkloadRemoved: workloads.workload_removed,
    e.RuntimeLost: machinery.runtime_lost,
    e.RuntimeFound: machinery.runtime_found,
    e.Noted: machinery.noted,
    e.Restored: machinery.restored,
}
