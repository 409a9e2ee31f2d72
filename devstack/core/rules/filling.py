"""What is prepared, and how each wanted slot gets a replica or a reason why not (law 4)."""

from collections.abc import Iterator

from devstack.core import policy
from devstack.core.blame import summary
from devstack.core.model import Service
from devstack.core.ops import CancelPrepare, Prepare, StartReplica, StopReplica
from devstack.core.rules.draft import Draft
from devstack.core.rules.leaving import surplus
from devstack.core.rules.starting import (
    never_two,
    not_prepared,
    revision_to_start,
    unmet_dependency,
)
from devstack.core.state import Phase, State

ENDED = "ended with code 0 and is not started again"


def cancel_preparations(state: State, draft: Draft) -> None:
    """What is prepared and not wanted any more is killed: it may hang, and keeps the newest waiting.

    At once, however often the newest changes: sources are not watched, so that somebody asked for each.
    """
    for name, known in state.services.items():
        if known.preparing is None or known.cancelling:
            continue
        cause = _why_unwanted(state, name, known.preparing)
        if cause:
            draft.op(f"prepare:{name}", CancelPrepare(name, known.preparing, cause))


def _why_unwanted(state: State, name: str, revision: str) -> str:
    """Why a revision need not be prepared any more; empty while it must."""
    if state.closing:
        return state.closing
    if unwanted := surplus(state, name, 1):
        return unwanted
    if state.wanted_count(name) == 0:
        return f"{name} is done"
    return "" if revision == state.wanted_revision(name) else "a newer revision is wanted"


def prepare(state: State, draft: Draft) -> None:
    """The newest wanted revision is prepared, one at a time for each service, once.

    What nothing holds back comes first: it can start while the others are still prepared.
    """
    if state.stack is None or state.closing:
        return
    services = state.stack.services
    for name in sorted(services, key=lambda name: bool(services[name].depends_on)):
        service, known = services[name], state.of(name)
        if known.preparing is not None or service.runtime in state.lost_runtimes:
            continue
        wanted = state.wanted_revision(name)
        if wanted is None or wanted == known.desired or state.wanted_count(name) == 0:
            continue
        if known.prepare_error is not None and known.prepare_error[0] == wanted:
            draft.hold(name, None, known.prepare_error[1])
            continue
        cause = "first start" if known.desired is None else "configuration or source changed"
        draft.op(f"prepare:{name}", Prepare(name, wanted, cause))


def fill(state: State, draft: Draft) -> None:
    """Each wanted slot without a current replica gets one, or a hold that says why not (law 4)."""
    for name, service in own(state):
        for slot in range(1, state.wanted_count(name) + 1):
            if any(r.is_current for r in draft.on_slot(name, slot)):
                continue
            revision = revision_to_start(state, service, slot)
            blocked = why_not(state, draft, service, slot, revision)
            if blocked is not None:
                draft.hold(name, slot, *blocked)
                make_room(draft, service, slot)
            elif revision is not None:
                start(state, draft, name, slot, revision, _cause(state, name, slot))
    _hold_the_rest(state, draft)


def own(state: State) -> Iterator[tuple[str, Service]]:
    """Listed services whose replicas are devstack's own and whose runtime answers."""
    if state.stack is None or state.closing:
        return
    for name, service in state.stack.services.items():
        if service.runtime.owns_replicas and service.runtime not in state.lost_runtimes:
            yield name, service


def _hold_the_rest(state: State, draft: Draft) -> None:
    """Slots of a runtime that does not answer are wanted too."""
    if state.stack is None or state.closing:
        return
    for name, service in state.stack.services.items():
        reason = state.lost_runtimes.get(service.runtime)
        if reason is None or not service.runtime.owns_replicas:
            continue
        for slot in range(1, state.wanted_count(name) + 1):
            if not any(r.is_current for r in draft.on_slot(name, slot)):
                draft.hold(name, slot, f"{service.runtime} runtime does not answer: {reason}")


def _cause(state: State, name: str, slot: int) -> str:
    history = state.of(name).slot(slot)
    if history.started == 0 or history.last_exit is None:
        return "wanted"
    return f"the last one {history.last_exit}"


def start(state: State, draft: Draft, name: str, slot: int, revision: str, cause: str) -> None:
    """Plan the next replica of a slot."""
    replica = f"{name}.{slot}#{state.of(name).slot(slot).started + 1}"
    draft.op(replica, StartReplica(replica, name, slot, revision, cause))


def why_not(
    state: State, draft: Draft, service: Service, slot: int, revision: str | None
) -> tuple[str, float | None] | None:
    """Why a replica of this revision must not start in a slot now, and until when; None if it may."""
    name = service.name
    if revision is None:
        return not_prepared(state, name), None
    unmet = unmet_dependency(state, service)
    if unmet:
        return unmet, None
    attempts = state.of(name).slot(slot).attempts(revision)
    if attempts.finished:
        return ENDED, None
    if attempts.blocked:
        return attempts.blocked, None
    if attempts.retry_at > draft.now:
        return _failure_text(state, name, slot, revision), attempts.retry_at
    others = draft.on_slot(name, slot)
    failing = [r for r in others if r.stop_is_failure and r.revision == revision]
    if failing or (others and never_two(service)):
        # how long to wait after a failure is known when it has ended
        return f"waits for {(failing or others)[0].id} to end", None
    if len(others) >= policy.PORTS_PER_SLOT:
        return f"all {policy.PORTS_PER_SLOT} ports of the slot are in use by earlier replicas", None
    return None


def _failure_text(state: State, name: str, slot: int, revision: str) -> str:
    known = state.of(name)
    if known.rollout_error is not None and known.rollout_error[0] == revision:
        return f"newest source does not start: {known.rollout_error[1]}"
    last = known.slot(slot).last_exit
    return f"backing off: {summary(last)}" if last is not None else "backing off"


def make_room(draft: Draft, service: Service, slot: int) -> None:
    """When no port of a slot is free, its oldest draining replica is ended."""
    others = draft.on_slot(service.name, slot)
    if len(others) < policy.PORTS_PER_SLOT or any(r.phase is Phase.STOPPING for r in others):
        return
    draining = [r for r in others if r.draining]
    if draining:
        oldest = min(draining, key=lambda r: (r.requested_at, r.id))
        draft.op(oldest.id, StopReplica(oldest.id, "its port is needed"))
