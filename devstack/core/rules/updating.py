"""How replicas of an old revision are replaced: rolling, recreate, and giving up."""

from devstack.core import policy
from devstack.core.ops import StopReplica
from devstack.core.rules.draft import Draft
from devstack.core.rules.filling import make_room, never_two, own, start, why_not
from devstack.core.state import State


def recreate(state: State, draft: Draft) -> None:
    """Where two must never share a slot, the old replica goes before the new one comes."""
    for name, service in own(state):
        desired = state.of(name).desired
        if desired is None or service.is_job or not never_two(service):
            continue
        for replica in state.replicas_of(name):
            if replica.is_current and replica.revision != desired:
                draft.op(replica.id, StopReplica(replica.id, "replaced by a newer revision"))


def roll(state: State, draft: Draft) -> None:
    """Old replicas that serve get a successor beside them, few at a time; the old one goes later."""
    for name, service in own(state):
        known = state.of(name)
        if known.desired is None or service.is_job or never_two(service):
            continue
        count = state.wanted_count(name)
        proven = known.good == known.desired
        room = policy.surge(count, proven) - _successors_starting(state, name, known.desired)
        for slot in range(1, count + 1):
            current = [r for r in state.on_slot(name, slot) if r.is_current]
            if not current or any(r.revision == known.desired for r in current):
                continue
            blocked = why_not(state, draft.now, service, slot, known.desired)
            if blocked is not None:
                draft.hold(name, slot, *blocked)
                make_room(state, service, slot, draft)
            elif room > 0 or not any(r.ready for r in current):
                room -= 1
                start(state, name, slot, known.desired, "a newer revision", draft)
            else:
                draft.hold(name, slot, "waits for its turn in the update")


def _successors_starting(state: State, name: str, desired: str) -> int:
    """How many slots have an old replica and a successor that is not ready yet."""
    return sum(
        1
        for r in state.replicas_of(name)
        if r.revision == desired
        and r.is_current
        and not r.ready
        and r.slot is not None
        and any(o.is_current and o.revision != desired for o in state.on_slot(name, r.slot))
    )


def give_up_on_updates(state: State, draft: Draft) -> None:
    """A successor that is not ready in time is stopped while the old replica serves."""
    for replica in state.replicas.values():
        service = state.definition(replica.service)
        if (
            service is None
            or replica.slot is None
            or replica.was_ready
            or not replica.is_current
            or service.is_job
        ):
            continue
        if not any(
            o.id != replica.id and o.is_serving
            for o in state.on_slot(replica.service, replica.slot)
        ):
            continue
        deadline = replica.requested_at + service.start_timeout_seconds
        if draft.now < deadline:
            draft.wake(deadline)
            continue
        cause = f"not ready within {service.start_timeout_seconds:g} s"
        if replica.reason:
            cause += f": {replica.reason}"
        draft.op(replica.id, StopReplica(replica.id, cause, is_failure=True))
