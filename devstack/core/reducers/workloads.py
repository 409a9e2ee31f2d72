"""What a cluster was told, and what it shows."""

from dataclasses import replace

from devstack.core import events as e
from devstack.core import policy
from devstack.core.events import Workload
from devstack.core.reducers.edit import (
    edit_service,
    edit_workload,
)
from devstack.core.state import (
    Phase,
    Replica,
    State,
)


def workload_apply_requested(state: State, event: e.WorkloadApplyRequested) -> State:
    return edit_workload(
        state, event.service, applying=True, revision=event.revision, count=event.count, exists=True
    )


def workload_applied(state: State, event: e.WorkloadApplied) -> State:
    if event.service not in state.services:
        return state
    state = edit_workload(state, event.service, applying=False, failures=0, error="")
    service = state.of(event.service)
    if service.desired == event.revision:
        state = edit_service(
            state, event.service, good=event.revision, good_artifact=service.artifact
        )
    return state


def workload_failed(state: State, event: e.WorkloadFailed) -> State:
    if event.service not in state.services:
        return state
    workload = state.of(event.service).workload
    failures = workload.failures + 1
    return edit_workload(
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


def workload_observed(state: State, event: e.WorkloadObserved) -> State:
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


def workload_remove_requested(state: State, event: e.WorkloadRemoveRequested) -> State:
    return edit_workload(state, event.service, removing=True)


def workload_removed(state: State, event: e.WorkloadRemoved) -> State:
    state = edit_service(state, event.service, workload=Workload())
    kept = {k: r for k, r in state.replicas.items() if r.service != event.service}
    return replace(state, replicas=kept)
