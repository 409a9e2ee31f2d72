"""Making artifacts: only what was prepared last becomes the desired revision."""

from dataclasses import replace
from typing import Any

from devstack.core import events as e
from devstack.core.reducers.edit import edit_service, forget_failures, with_item
from devstack.core.state import (
    State,
)


def prepare_started(state: State, event: e.PrepareStarted) -> State:
    return edit_service(state, event.service, preparing=event.revision, prepare_error=None)


def prepare_succeeded(state: State, event: e.PrepareSucceeded) -> State:
    if state.wanted_revision(event.service) != event.revision:
        # something newer is wanted meanwhile: only what was prepared last becomes desired
        return _ended(state, event)
    return _ended(
        state,
        event,
        prepare_error=None,
        rollout_error=None,
        desired=event.revision,
        artifact=event.artifact,
    )


def prepare_failed(state: State, event: e.PrepareFailed) -> State:
    return _ended(state, event, prepare_error=(event.revision, event.message))


def prepare_cancel_requested(state: State, event: e.PrepareCancelRequested) -> State:
    return edit_service(state, event.service, cancelling=True)


def prepare_abandoned(state: State, event: e.PrepareAbandoned) -> State:
    return _ended(state, event)


def _ended(
    state: State,
    event: e.PrepareSucceeded | e.PrepareFailed | e.PrepareAbandoned,
    **changes: Any,
) -> State:
    """One that was asked to end may have ended by itself just before: then that counts."""
    if state.of(event.service).preparing != event.revision:
        return state
    return edit_service(state, event.service, preparing=None, cancelling=False, **changes)


def data_reset(state: State, event: e.DataReset) -> State:
    """Jobs that failed on the old data are tried on the new."""
    for name in state.dependents(event.service):
        service = state.definition(name)
        if service is not None and service.is_job:
            fresh = forget_failures(state.of(name))
            state = replace(state, services=with_item(state.services, name, fresh))
    return edit_service(
        state, event.service, desired=None, artifact=None, good=None, good_artifact=None
    )
