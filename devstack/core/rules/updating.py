"""How replicas of an old revision get a successor: few at a time, and never at the cost of service."""

from devstack.core import policy
from devstack.core.ops import StopReplica
from devstack.core.rules.draft import Draft
from devstack.core.rules.filling import make_room, own, start, why_not
from devstack.core.rules.starting import never_two, startable
from devstack.core.state import State

_TURN = "waits for its turn in the update"


def roll(state: State, draft: Draft) -> None:
    """Old replicas that serve get a successor beside them, few at a time; the old one goes later.

    Until the newest revision was ready once, one slot tries it for all; if it fails, that slot goes on.
    """
    for name, service in own(state):
        known = state.of(name)
        if known.desired is None or service.is_job or never_two(service):
            continue
        count = state.wanted_count(name)
        proven = known.good == known.desired
        canaries = () if proven else _failing_slots(state, name, count, known.desired)
        room = policy.surge(count, proven) - _successors_starting(state, draft, name, known.desired)
        for slot in range(1, count + 1):
            current = [r for r in draft.on_slot(name, slot) if r.is_current]
            if not current or any(r.revision == known.desired for r in current):
                continue
            serves = any(r.ready for r in current)
            if len(current) > 1 or (canaries and slot not in canaries):
                draft.hold(name, slot, _TURN)
                continue
            blocked = why_not(state, draft, service, slot, startable(state, name))
            if blocked is not None:
                draft.hold(name, slot, *blocked)
                make_room(draft, service, slot)
            elif room > 0 or not serves:
                room -= 1
                start(state, draft, name, slot, known.desired, "a newer revision")
            else:
                draft.hold(name, slot, _TURN)


def _failing_slots(state: State, name: str, count: int, desired: str) -> tuple[int, ...]:
    """Slots in which the newest revision was tried in vain."""
    tried = ((slot, state.of(name).slot(slot).attempts(desired)) for slot in range(1, count + 1))
    return tuple(slot for slot, a in tried if a.failures or a.blocked or a.finished)


def _successors_starting(state: State, draft: Draft, name: str, desired: str) -> int:
    """How many slots have an old replica and a successor that is not ready yet."""
    return sum(
        1
        for r in state.replicas_of(name)
        if r.revision == desired
        and r.is_current
        and not r.ready
        and r.slot is not None
        and any(o.is_current and o.revision != desired for o in draft.on_slot(name, r.slot))
    )


def give_up_on_updates(state: State, draft: Draft) -> None:
    """A successor that is not ready in time is stopped while the old replica serves."""
    if state.closing:
        return
    for replica in state.replicas.values():
        service = state.definition(replica.service)
        if (
            service is None
            or replica.slot is None
            or replica.was_ready
            or not replica.is_current
            or replica.id in draft.leaving
            or service.is_job
        ):
            continue
        beside = draft.on_slot(replica.service, replica.slot)
        if not any(other.id != replica.id and other.is_serving for other in beside):
            continue
        deadline = replica.requested_at + service.start_timeout_seconds
        if draft.now < deadline:
            draft.wake(deadline)
            continue
        cause = f"not ready within {service.start_timeout_seconds:g} s"
        if replica.reason:
            cause += f": {replica.reason}"
        draft.op(replica.id, StopReplica(replica.id, cause, is_failure=True))
