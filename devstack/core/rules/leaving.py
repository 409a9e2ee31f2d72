"""Which replicas should make way: surplus ones, and those that a newer one replaces.

What leaves is first taken out of the routing table, then drained, then stopped; see `ending`.
"""

from collections import defaultdict
from collections.abc import Mapping

from devstack.core.model import Service
from devstack.core.rules.starting import never_two, revision_to_start, unmet_dependency
from devstack.core.state import Replica, State

BySlot = Mapping[tuple[str, int], tuple[Replica, ...]]


def by_slot(state: State) -> BySlot:
    """All replicas of each slot, those that are ending included."""
    found: dict[tuple[str, int], list[Replica]] = defaultdict(list)
    for replica in state.replicas.values():
        if replica.slot is not None:
            found[replica.service, replica.slot].append(replica)
    return {key: tuple(replicas) for key, replicas in found.items()}


def leaving(state: State) -> dict[str, str]:
    """Replicas that should make way, and why. A stack that is closing has an order of its own."""
    result: dict[str, str] = {}
    if state.closing:
        return result
    slots = by_slot(state)
    for (name, slot), replicas in slots.items():
        service = state.definition(name)
        current = [r for r in replicas if r.is_current and not r.observed]
        if not current:
            continue
        unwanted = surplus(state, name, slot)
        for replica in current:
            cause = unwanted or (
                _replaced(state, service, replica, current) if service is not None else ""
            )
            if cause:
                result[replica.id] = cause
    return result


def surplus(state: State, name: str, slot: int) -> str:
    """Why nothing is wanted in a slot; empty where it is, and for jobs, which end by themselves."""
    service = state.definition(name)
    if service is None or not state.is_listed(name):
        return f"{name} was removed from the stack file"
    if state.override(name).stopped:
        return f"{name} was stopped"
    count = state.wanted_count(name)
    if slot > count and not service.is_job:
        return f"scaled to {count}"
    return ""


def _replaced(state: State, service: Service, replica: Replica, current: list[Replica]) -> str:
    desired = state.of(service.name).desired
    if desired is None or replica.revision == desired or service.is_job:
        return ""
    if never_two(service):
        return "replaced by a newer revision" if _may_follow(state, service, replica) else ""
    for other in current:
        if other.revision == desired and other.is_serving:
            return f"replaced by {other.id}"
    older = [r for r in current if r.revision != desired]
    kept = max(older, key=lambda r: (r.is_serving, r.was_ready, r.requested_at, r.id))
    return "" if replica is kept else f"{kept.id} stands in until the newest revision is ready"


def _may_follow(state: State, service: Service, replica: Replica) -> bool:
    """Whether the desired revision could start at once if this replica were gone."""
    desired = state.of(service.name).desired
    if replica.slot is None or revision_to_start(state, service, replica.slot) != desired:
        return False
    attempts = state.of(service.name).slot(replica.slot).attempts(desired)
    if attempts.blocked or attempts.finished:
        return False
    return not unmet_dependency(state, service)
