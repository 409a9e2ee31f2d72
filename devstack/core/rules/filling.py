"""What is prepared, and how each wanted slot gets a replica or a reason why not (law 4)."""

from collections.abc import Iterator

from devstack.core import policy
from devstack.core.model import GATEWAY, Service, Update
from devstack.core.ops import Prepare, StartReplica, StopReplica
from devstack.core.rules.draft import Draft
from devstack.core.state import Phase, State


def prepare(state: State, draft: Draft) -> None:
    """The newest wanted revision is prepared, one at a time for each service, once."""
    if state.stack is None or state.closing:
        return
    for name, service in state.stack.services.items():
        known = state.of(name)
        wanted = state.wanted_revision(name)
        if (
            wanted is None
            or wanted == known.desired
            or known.preparing is not None
            or state.wanted_count(name) == 0
            or service.runtime in state.lost_runtimes
        ):
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
            if any(r.is_current for r in state.on_slot(name, slot)):
                continue
            revision = _revision_to_start(state, name)
            blocked = why_not(state, draft.now, service, slot, revision)
            if blocked is not None:
                draft.hold(name, slot, *blocked)
                make_room(state, service, slot, draft)
            elif revision is not None:
                start(state, name, slot, revision, _cause(state, name, slot), draft)
    _hold_the_rest(state, draft)


def _hold_the_rest(state: State, draft: Draft) -> None:
    """Slots of a runtime that does not answer are wanted too."""
    if state.stack is None or state.closing:
        return
    for name, service in state.stack.services.items():
        reason = state.lost_runtimes.get(service.runtime)
        if reason is None or not service.runtime.owns_replicas:
            continue
        for slot in range(1, state.wanted_count(name) + 1):
            if not any(r.is_current for r in state.on_slot(name, slot)):
                draft.hold(name, slot, f"{service.runtime} runtime does not answer: {reason}")


def _revision_to_start(state: State, name: str) -> str | None:
    """The desired revision; the last good one while the desired one fails and an artifact is enough."""
    known = state.of(name)
    failing = known.rollout_error is not None and known.rollout_error[0] == known.desired
    if (
        failing
        and known.good is not None
        and known.good_artifact is not None
        and known.good_artifact.is_compiled
    ):
        return known.good
    return known.desired


def _cause(state: State, name: str, slot: int) -> str:
    last = state.of(name).slot(slot).last_exit
    if state.of(name).slot(slot).started == 0:
        return "wanted"
    return f"the last one {last}" if last is not None else "wanted"


def own(state: State) -> Iterator[tuple[str, Service]]:
    """Listed services whose replicas are devstack's own and whose runtime answers."""
    if state.stack is None or state.closing:
        return
    for name, service in state.stack.services.items():
        if service.runtime.owns_replicas and service.runtime not in state.lost_runtimes:
            yield name, service


def never_two(service: Service) -> bool:
    return service.update is Update.RECREATE or service.has_fixed_port


def start(state: State, name: str, slot: int, revision: str, cause: str, draft: Draft) -> None:
    replica = f"{name}.{slot}#{state.of(name).slot(slot).started + 1}"
    draft.op(replica, StartReplica(replica, name, slot, revision, cause))


def why_not(
    state: State, now: float, service: Service, slot: int, revision: str | None
) -> tuple[str, float | None] | None:
    """Why a replica of this revision must not start in a slot now; None when it may."""
    name = service.name
    known = state.of(name)
    if revision is None:
        if known.prepare_error is not None:
            return known.prepare_error[1], None
        return "preparing", None
    unmet = unmet_dependency(state, service)
    if unmet:
        return unmet, None
    history = known.slot(slot)
    if history.failed_revision == revision:
        if history.finished:
            return "ended with code 0 and is not started again", None
        if history.blocked:
            return history.blocked, None
        if history.retry_at > now:
            return _failure_text(state, name, slot), history.retry_at
    others = state.on_slot(name, slot)
    if others and never_two(service):
        return f"waits for {others[0].id} to end", None
    if len(others) >= policy.PORTS_PER_SLOT:
        return f"all {policy.PORTS_PER_SLOT} ports of the slot are in use by earlier replicas", None
    return None


def _failure_text(state: State, name: str, slot: int) -> str:
    known = state.of(name)
    if known.rollout_error is not None and known.rollout_error[0] == known.desired:
        return f"newest source does not start: {known.rollout_error[1]}"
    last = known.slot(slot).last_exit
    return f"backing off: {last}" if last is not None else "backing off"


def unmet_dependency(state: State, service: Service) -> str:
    """The first dependency that is not so far, with its own reason."""
    for dependency in service.depends_on:
        if not state.satisfies(dependency.service, dependency.condition):
            return f"waiting for {dependency.service} ({dependency.condition})"
    if service.is_balanced and state.is_listed(GATEWAY) and not state.of(GATEWAY).good:
        # nothing waits for more than the first load: a gateway that is gone for a moment comes back
        return f"waiting for {GATEWAY} (first load)"
    return ""


def make_room(state: State, service: Service, slot: int, draft: Draft) -> None:
    """When no port of a slot is free, its oldest draining replica is ended."""
    others = state.on_slot(service.name, slot)
    if len(others) < policy.PORTS_PER_SLOT:
        return
    draining = sorted(
        (r for r in others if r.draining and r.phase is not Phase.STOPPING),
        key=lambda r: r.requested_at,
    )
    if draining and not any(r.phase is Phase.STOPPING for r in others):
        oldest = draining[0]
        draft.op(oldest.id, StopReplica(oldest.id, "its port is needed"))
