"""`reconcile(state, now) -> Plan`: what to do now, why the rest is not done, when to look again.

One rule, one function; the order of `_RULES` is the order of precedence, since at most one op goes out
for each replica and each service's preparation (law 3). Rules read State only; what they set in motion
is recorded as an intent before it runs, so the next round sees it. One round is not enough (stopping
an old replica makes room for the next): the controller asks until a plan has no ops (law 2).
"""

from collections.abc import Callable, Iterator

from devstack.core import policy
from devstack.core.model import GATEWAY, Service, Update
from devstack.core.ops import (
    ApplyWorkload,
    DrainReplica,
    Hold,
    LoadGateway,
    Op,
    Plan,
    Prepare,
    RemoveWorkload,
    SetRoutes,
    StartReplica,
    StopReplica,
)
from devstack.core.shape import wanted_shape, wanted_table
from devstack.core.state import Phase, Replica, State


class _Draft:
    """A plan in the making."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.ops: list[Op] = []
        self.holds: list[Hold] = []
        self._wakes: list[float] = []
        self._taken: set[str] = set()

    def op(self, key: str, op: Op) -> None:
        """Plan an op unless an earlier rule has one for the same replica or step."""
        if key not in self._taken:
            self._taken.add(key)
            self.ops.append(op)

    def hold(self, service: str, slot: int | None, reason: str, until: float | None = None) -> None:
        self.holds.append(Hold(service, slot, reason, until))
        if until is not None:
            self.wake(until)

    def wake(self, at: float) -> None:
        self._wakes.append(at)

    def plan(self) -> Plan:
        later = [at for at in self._wakes if at > self.now]
        return Plan(tuple(self.ops), tuple(self.holds), min(later, default=None))


def reconcile(state: State, now: float) -> Plan:
    """Compare what is wanted with what there is; see the module's docstring."""
    draft = _Draft(now)
    for rule in _RULES:
        rule(state, draft)
    return draft.plan()


# ── what is on its way out ─────────────────────────────────────────────────────────────────────


def leaving(state: State) -> dict[str, str]:
    """Replicas that should make way, and why: surplus ones, and those whose successor is ready."""
    result: dict[str, str] = {}
    if state.closing:
        return result
    for replica in state.replicas.values():
        if replica.observed or replica.slot is None or not replica.is_current:
            continue
        cause = _surplus(state, replica) or _replaced(state, replica)
        if cause:
            result[replica.id] = cause
    return result


def _surplus(state: State, replica: Replica) -> str:
    name = replica.service
    if not state.is_listed(name):
        return f"{name} was removed from the stack file"
    if state.override(name).stopped:
        return f"{name} was stopped"
    count = state.wanted_count(name)
    if replica.slot is not None and replica.slot > count and not _is_job(state, name):
        return f"scaled to {count}"
    return ""


def _replaced(state: State, replica: Replica) -> str:
    desired = state.of(replica.service).desired
    if desired is None or replica.revision == desired or replica.slot is None:
        return ""
    for other in state.on_slot(replica.service, replica.slot):
        if other.revision == desired and other.is_serving:
            return f"replaced by {other.id}"
    return ""


def _is_job(state: State, name: str) -> bool:
    service = state.definition(name)
    return service is not None and service.is_job


# ── rules: ending ──────────────────────────────────────────────────────────────────────────────


def _stop_in_order(state: State, draft: _Draft) -> None:
    """A stack that is closing stops dependents first; nothing is drained."""
    if not state.closing:
        return
    alive = {r.service for r in state.replicas.values()}
    for name in state.names():
        waiting = sorted(d for d in state.dependents(name) if d in alive)
        for replica in state.replicas_of(name):
            if replica.phase is Phase.STOPPING or replica.observed:
                continue
            if waiting:
                draft.hold(name, replica.slot, f"stops after {', '.join(waiting)}")
            elif _is_routed(state, replica) and not state.gateway.routes_error:
                draft.hold(name, replica.slot, "stops when the gateway routes to nobody")
            else:
                draft.op(replica.id, StopReplica(replica.id, state.closing))


def _is_routed(state: State, replica: Replica) -> bool:
    """Whether the table in force, or the one being set, still sends requests to a replica."""
    if not state.gateway_running:
        return False
    tables = (state.gateway.table, state.gateway.setting)
    return any(
        target.replica == replica.id
        for table in tables
        if table is not None
        for targets in table.ready.values()
        for target in targets
    )


def _stop_the_dead(state: State, draft: _Draft) -> None:
    """A replica whose liveness failed is stopped; that counts as a failure of its own."""
    for replica in state.replicas.values():
        if not replica.alive and replica.phase is not Phase.STOPPING:
            cause = f"liveness probe failed: {replica.reason}"
            draft.op(replica.id, StopReplica(replica.id, cause, is_failure=True))


def _give_up_on_updates(state: State, draft: _Draft) -> None:
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


def _stop_the_drained(state: State, draft: _Draft) -> None:
    """A draining replica is stopped when nobody is connected, or nobody can be."""
    for replica in state.replicas.values():
        if replica.phase is Phase.STOPPING or not replica.draining:
            continue
        if replica.drained or not state.gateway_running or state.closing:
            draft.op(replica.id, StopReplica(replica.id, replica.stop_cause))


def _retire(state: State, draft: _Draft) -> None:
    """What leaves is drained once the table in force is without it; what had no callers is stopped."""
    for replica_id, cause in leaving(state).items():
        replica = state.replicas[replica_id]
        service = state.definition(replica.service)
        if service is None or not _needs_drain(state, service, replica):
            draft.op(replica_id, StopReplica(replica_id, cause))
        elif _is_routed(state, replica):
            draft.hold(
                replica.service, replica.slot, f"{replica_id} leaves the routing table first"
            )
        else:
            draft.op(replica_id, DrainReplica(replica_id, cause))


def _needs_drain(state: State, service: Service, replica: Replica) -> bool:
    has_callers = bool(service.endpoints) and not service.is_engine
    return has_callers and replica.was_ready and state.gateway_running


def _recreate(state: State, draft: _Draft) -> None:
    """Where two must never share a slot, the old replica goes before the new one comes."""
    for name, service in _own(state):
        desired = state.of(name).desired
        if desired is None or service.is_job or not _never_two(service):
            continue
        for replica in state.replicas_of(name):
            if replica.is_current and replica.revision != desired:
                draft.op(replica.id, StopReplica(replica.id, "replaced by a newer revision"))


def _never_two(service: Service) -> bool:
    return service.update is Update.RECREATE or service.has_fixed_port


# ── rules: preparing and filling ───────────────────────────────────────────────────────────────


def _own(state: State) -> Iterator[tuple[str, Service]]:
    """Listed services whose replicas are devstack's own and whose runtime answers."""
    if state.stack is None or state.closing:
        return
    for name, service in state.stack.services.items():
        if service.runtime.owns_replicas and service.runtime not in state.lost_runtimes:
            yield name, service


def _prepare(state: State, draft: _Draft) -> None:
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


def _fill(state: State, draft: _Draft) -> None:
    """Each wanted slot without a current replica gets one, or a hold that says why not (law 4)."""
    for name, service in _own(state):
        for slot in range(1, state.wanted_count(name) + 1):
            if any(r.is_current for r in state.on_slot(name, slot)):
                continue
            revision = _revision_to_start(state, name)
            blocked = _why_not(state, draft.now, service, slot, revision)
            if blocked is not None:
                draft.hold(name, slot, *blocked)
                _make_room(state, service, slot, draft)
            elif revision is not None:
                _start(state, name, slot, revision, _cause(state, name, slot), draft)
    _hold_the_rest(state, draft)


def _hold_the_rest(state: State, draft: _Draft) -> None:
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


def _start(state: State, name: str, slot: int, revision: str, cause: str, draft: _Draft) -> None:
    replica = f"{name}.{slot}#{state.of(name).slot(slot).started + 1}"
    draft.op(replica, StartReplica(replica, name, slot, revision, cause))


def _why_not(
    state: State, now: float, service: Service, slot: int, revision: str | None
) -> tuple[str, float | None] | None:
    """Why a replica of this revision must not start in a slot now; None when it may."""
    name = service.name
    known = state.of(name)
    if revision is None:
        if known.prepare_error is not None:
            return known.prepare_error[1], None
        return "preparing", None
    unmet = _unmet_dependency(state, service)
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
    if others and _never_two(service):
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


def _unmet_dependency(state: State, service: Service) -> str:
    """The first dependency that is not so far, with its own reason."""
    for dependency in service.depends_on:
        if not state.satisfies(dependency.service, dependency.condition):
            return f"waiting for {dependency.service} ({dependency.condition})"
    if service.is_balanced and state.is_listed(GATEWAY) and not state.of(GATEWAY).good:
        # nothing waits for more than the first load: a gateway that is gone for a moment comes back
        return f"waiting for {GATEWAY} (first load)"
    return ""


def _make_room(state: State, service: Service, slot: int, draft: _Draft) -> None:
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


def _roll(state: State, draft: _Draft) -> None:
    """Old replicas that serve get a successor beside them, few at a time; the old one goes later."""
    for name, service in _own(state):
        known = state.of(name)
        if known.desired is None or service.is_job or _never_two(service):
            continue
        count = state.wanted_count(name)
        proven = known.good == known.desired
        room = policy.surge(count, proven) - _successors_starting(state, name, known.desired)
        for slot in range(1, count + 1):
            current = [r for r in state.on_slot(name, slot) if r.is_current]
            if not current or any(r.revision == known.desired for r in current):
                continue
            blocked = _why_not(state, draft.now, service, slot, known.desired)
            if blocked is not None:
                draft.hold(name, slot, *blocked)
                _make_room(state, service, slot, draft)
            elif room > 0 or not any(r.ready for r in current):
                room -= 1
                _start(state, name, slot, known.desired, "a newer revision", draft)
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


# ── rules: gateway ─────────────────────────────────────────────────────────────────────────────


def _set_routes(state: State, draft: _Draft) -> None:
    """The routing table follows readiness, one replacement at a time."""
    if not state.gateway_running or state.gateway.setting is not None:
        return
    table = wanted_table(state, frozenset(leaving(state)))
    if table == state.gateway.table:
        return
    if draft.now < state.gateway.routes_retry_at:
        draft.wake(state.gateway.routes_retry_at)
        return
    draft.op("routes", SetRoutes(table, "ready replicas changed"))


def _load_gateway(state: State, draft: _Draft) -> None:
    """NGINX is given a new configuration when names, routes or slots changed."""
    if state.closing or state.gateway.loading is not None:
        return
    if not any(r.is_serving for r in state.replicas_of(GATEWAY)):
        return
    shape = wanted_shape(state)
    if shape == state.gateway.loaded:
        return
    error = state.gateway.load_error
    if error is not None and error[0] == shape:
        draft.hold(GATEWAY, None, error[1], state.gateway.load_retry_at)
        if draft.now < state.gateway.load_retry_at:
            return
    draft.op("load", LoadGateway(shape, "routes or slots changed"))


# ── rules: workloads ───────────────────────────────────────────────────────────────────────────


def _apply_workloads(state: State, draft: _Draft) -> None:
    """A cluster is told (revision, count) when it differs from what it was told last, and only then."""
    if state.stack is None or state.closing:
        return
    for name, service in state.stack.services.items():
        if service.runtime.owns_replicas:
            continue
        known = state.of(name)
        workload = known.workload
        count = state.wanted_count(name)
        if known.desired is None or workload.applying or workload.removing:
            if count and known.desired is None:
                draft.hold(name, None, "preparing")
            continue
        if (workload.revision, workload.count) == (known.desired, count):
            continue
        if count == 0 and not workload.exists:
            continue
        if service.runtime in state.lost_runtimes:
            draft.hold(name, None, state.lost_runtimes[service.runtime])
        elif workload.blocked:
            draft.hold(name, None, workload.error)
        elif workload.retry_at > draft.now:
            draft.hold(name, None, workload.error, workload.retry_at)
        elif not workload.exists and (unmet := _unmet_dependency(state, service)):
            draft.hold(name, None, unmet)
        else:
            cause = f"{count} of revision {known.desired} wanted"
            draft.op(f"workload:{name}", ApplyWorkload(name, known.desired, count, cause))


def _remove_workloads(state: State, draft: _Draft) -> None:
    """A workload goes with its service, or with the stack, dependents first."""
    alive = {r.service for r in state.replicas.values()}
    alive |= {n for n, s in state.services.items() if s.workload.exists}
    for name in state.names():
        workload = state.of(name).workload
        if not workload.exists or workload.removing or workload.applying:
            continue
        if state.is_listed(name) and not state.closing:
            continue
        if workload.retry_at > draft.now:
            draft.wake(workload.retry_at)
            continue
        if state.closing and any(d in alive for d in state.dependents(name)):
            draft.hold(name, None, "stops after its dependents")
            continue
        cause = state.closing or f"{name} was removed from the stack file"
        draft.op(f"workload:{name}", RemoveWorkload(name, cause))


_RULES: tuple[Callable[[State, _Draft], None], ...] = (
    _stop_in_order,
    _stop_the_dead,
    _give_up_on_updates,
    _stop_the_drained,
    _retire,
    _recreate,
    _prepare,
    _fill,
    _roll,
    _set_routes,
    _load_gateway,
    _apply_workloads,
    _remove_workloads,
)
