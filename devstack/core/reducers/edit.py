"""How frozen State is changed in one place: a copy with one service, slot or replica replaced."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from devstack.core import policy
from devstack.core.events import Attempts
from devstack.core.state import (
    Override,
    Replica,
    ServiceState,
    State,
)

K = TypeVar("K")
V = TypeVar("V")


def with_item(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    return {**mapping, key: value}


def without(mapping: Mapping[K, V], key: K) -> Mapping[K, V]:
    return {k: v for k, v in mapping.items() if k != key}


def edit_service(state: State, name: str, **changes: Any) -> State:
    changed = replace(state.of(name), **changes)
    return replace(state, services=with_item(state.services, name, changed))


def edit_slot(state: State, name: str, index: int, **changes: Any) -> State:
    service = state.of(name)
    slot = replace(service.slot(index), **changes)
    return edit_service(state, name, slots=with_item(service.slots, index, slot))


def edit_replica(state: State, replica: Replica, **changes: Any) -> State:
    changed = replace(replica, **changes)
    return replace(state, replicas=with_item(state.replicas, replica.id, changed))


def edit_workload(state: State, name: str, **changes: Any) -> State:
    return edit_service(state, name, workload=replace(state.of(name).workload, **changes))


def add_warning(state: State, name: str, text: str) -> State:
    """Keep what was told to people about a service, so that it is told once."""
    known = state.of(name).warnings
    if text in known:
        return state
    return edit_service(state, name, warnings=(*known, text)[-policy.WARNINGS_KEPT :])


def set_override(state: State, name: str, override: Override) -> State:
    if override == Override():
        return replace(state, overrides=without(state.overrides, name))
    return replace(state, overrides=with_item(state.overrides, name, override))


def forget_failures(service: ServiceState) -> ServiceState:
    """A person asked again: whatever was given up is tried anew, at once."""
    slots = {
        index: replace(slot, newest=Attempts(slot.newest.revision), older=Attempts())
        for index, slot in service.slots.items()
    }
    workload = replace(service.workload, failures=0, retry_at=0.0, error="", blocked=False)
    return replace(service, slots=slots, prepare_error=None, rollout_error=None, workload=workload)
