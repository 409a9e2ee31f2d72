"""Runtimes that come and go, notes for people, and what a snapshot knew."""

from dataclasses import replace

from devstack.core import events as e
from devstack.core.reducers.edit import add_warning, edit_service, set_override, with_item, without
from devstack.core.state import Override, State


def runtime_lost(state: State, event: e.RuntimeLost) -> State:
    return replace(state, lost_runtimes=with_item(state.lost_runtimes, event.runtime, event.reason))


def runtime_found(state: State, event: e.RuntimeFound) -> State:
    return replace(state, lost_runtimes=without(state.lost_runtimes, event.runtime))


def noted(state: State, event: e.Noted) -> State:
    return state if event.service is None else add_warning(state, event.service, event.text)


def restored(state: State, event: e.Restored) -> State:
    since = state.of(event.service).warnings
    state = edit_service(
        state,
        event.service,
        desired=event.desired,
        artifact=event.artifact,
        good=event.good,
        good_artifact=event.good_artifact,
        restart_count=event.restart_count,
        prepare_error=event.prepare_error,
        rollout_error=event.rollout_error,
        warnings=event.warnings,
        ready_changes=event.ready_changes,
        waiting_since=event.waiting_since,
        slots=dict(event.slots),
        standings=dict(event.replicas),
        # whether a cluster heard what it was being told, nobody knows: it is told again
        workload=replace(event.workload, count=-1, applying=False, removing=False),
    )
    for text in since:
        state = add_warning(state, event.service, text)
    return set_override(
        state, event.service, Override(event.override_replicas, event.override_stopped)
    )
