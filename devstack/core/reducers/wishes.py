"""What people and files ask for."""

from dataclasses import replace

from devstack.core import events as e
from devstack.core.reducers.edit import edit_service, forget_failures, set_override, with_item
from devstack.core.state import (
    State,
)


def stack_applied(state: State, event: e.StackApplied) -> State:
    removed = dict(state.removed)
    if state.stack is not None:
        removed |= {
            name: service
            for name, service in state.stack.services.items()
            if name not in event.stack.services
        }
    for name in event.stack.services:
        removed.pop(name, None)
    services = dict(state.services)
    for name in (*event.stack.services, *removed):
        services[name] = forget_failures(state.of(name))
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
        gateway=replace(state.gateway, load_error=None, load_retry_at=0.0, routes_retry_at=0.0),
    )


def source_changed(state: State, event: e.SourceChanged) -> State:
    state = edit_service(state, event.service, source=event.digest)
    return _carry_failures(state, event.service) if event.found_at_start else state


def _carry_failures(state: State, name: str) -> State:
    """A program that changes its own source and fails has failed as often as before."""
    known, revision = state.of(name), state.wanted_revision(name)
    running = {r.slot for r in state.replicas_of(name) if r.is_current and r.spawned}
    slots = {
        index: replace(
            slot, newest=replace(slot.newest, revision=revision, blocked="", finished=False)
        )
        if slot.newest.failures and index not in running
        else slot
        for index, slot in known.slots.items()
    }
    return edit_service(state, name, slots=slots)


def restart_requested(state: State, event: e.RestartRequested) -> State:
    service = forget_failures(state.of(event.service))
    service = replace(service, restart_count=service.restart_count + 1)
    override = replace(state.override(event.service), stopped=False)
    return set_override(
        replace(state, services=with_item(state.services, event.service, service)),
        event.service,
        override,
    )


def scale_requested(state: State, event: e.ScaleRequested) -> State:
    override = replace(state.override(event.service), replicas=event.replicas)
    if event.replicas:
        override = replace(override, stopped=False)
    return set_override(state, event.service, override)


def stop_requested(state: State, event: e.StopRequested) -> State:
    return set_override(state, event.service, replace(state.override(event.service), stopped=True))


def start_requested(state: State, event: e.StartRequested) -> State:
    service = forget_failures(state.of(event.service))
    return set_override(
        replace(state, services=with_item(state.services, event.service, service)),
        event.service,
        replace(state.override(event.service), stopped=False),
    )


def down_requested(state: State, event: e.DownRequested) -> State:
    """Overrides live until `down`. Whether NGINX answers is found out once more."""
    gateway = replace(state.gateway, routes_error="", routes_failures=0)
    return replace(state, closing=event.cause, overrides={}, gateway=gateway)
