"""Runtimes that come and go, notes for people, and what a snapshot knew."""

from dataclasses import replace

from devstack.core import events as e
from devstack.core.reducers.edit import add_warning, edit_service, set_override, with_item, without
from devstack.core.state import (
    Override,
    Slot,
    State,
)


def runtime_lost(state: State, event: e.RuntimeLost) -> State:
    return replace(state, lost_runtimes=with_item(state.lost_runtimes, event.runtime, event.reason))


def runtime_found(state: State, event: e.RuntimeFound) -> State:
    return replace(state, lost_runtimes=without(state.lost_runtimes, event.runtime))


def noted(state: State, event: e.Noted) -> State:
    return state if event.service is None else add_warning(state, event.service, event.text)


def restored(state: State, event: e.Restored) -> State:
    slots = {
        index: Slot(
            started=started,
            failures=failures,
            failed_revision=event.desired if failures else None,
            last_exit=last,
        )
        for index, started, failures, last in event.slots
    }
    state = edit_service(
        state,
        event.service,
        desired=event.desired,
        artifact=event.artifact,
        good=event.good,
        good_artifact=event.good_artifact,
        restart_count=event.restart_count,
        slots=slots,
    )
    return set_override(
        state, event.service, Override(event.override_replicas, event.override_stopped)
    )
