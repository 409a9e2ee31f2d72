"""Making artifacts: only what was prepared last becomes the desired revision."""

from dataclasses import replace

from devstack.core import events as e
from devstack.core.reducers.edit import edit_service, forget_failures, with_item
from devstack.core.state import (
    State,
)


def prepare_started(state: State, event: e.PrepareStarted) -> State:
    return edit_service(state, event.service, preparing=event.revision, prepare_error=None)


def prepare_succeeded(state: State, event: e.PrepareSucceeded) -> State:
    service = state.of(event.service)
    if service.preparing != event.revision:
        return state
    if state.wanted_revision(event.service) != event.revision:
        # something newer is wanted meanwhile: only what was prepared last becomes desired
        return edit_service(state, event.service, preparing=None)
    return edit_service(
        state,
        event.service,
        preparing=None,
        prepare_error=None,
        rollout_error=None,
        desired=event.revision,
        artifact=event.artifact,
    )


def prepare_failed(state: State, event: e.PrepareFailed) -> State:
    if state.of(event.service).preparing != event.revision:
        return state
    return edit_service(
        state, event.service, preparing=None, prepare_error=(event.revision, event.message)
    )


def prepare_abandoned(state: State, event: e.PrepareAbandoned) -> State:
    if state.of(event.service).preparing != event.revision:
        return state
    return edit_service(state, event.service, preparing=None)


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
