"""What people see of State: one word for each service, and why.

Pure: `status`, the dashboard and tests read the same answers from the same State and plan. Numbers that
grow (how long something waits) are added by whoever shows them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from devstack.core import policy
from devstack.core.events import Attempts
from devstack.core.model import GATEWAY, Service
from devstack.core.ops import Hold, Plan
from devstack.core.rules.filling import ENDED
from devstack.core.shape import wanted_shape
from devstack.core.state import Replica, ServiceState, State, is_flapping


class Word(StrEnum):
    """The state of a service in one word."""

    PREPARING = "preparing"
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    FLAPPING = "flapping"
    BACKING_OFF = "backing-off"
    CRASH_LOOP = "crash-loop"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DONE = "done"
    UNKNOWN = "unknown"

    @property
    def is_for_good(self) -> bool:
        """Whether waiting longer is of no use to `--wait` and updates."""
        return self in (Word.FAILED, Word.CRASH_LOOP)

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is expected of a service without somebody doing something."""
        return self in (Word.READY, Word.STOPPED, Word.DONE)


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A service as it is shown."""

    name: str
    definition: Service
    word: Word
    reason: str
    desired: int
    ready: int
    restarts: int
    """Of the wanted slots, not of the replicas: a slot that waits to be filled again has none."""
    replicas: tuple[Replica, ...]
    holds: tuple[Hold, ...]
    overridden: bool
    warnings: tuple[str, ...]


def may_be_done(service: Service) -> bool:
    """Whether to end with code 0 is all that may be expected of it: nobody is to reach it."""
    return service.is_job or not service.endpoints


def done_count(state: State, name: str) -> int:
    """How many slots have done their work: they are wanted and not filled again."""
    service = state.definition(name)
    if service is None or service.is_job or not may_be_done(service):
        return 0
    return sum(one.finished for one in _wanted_slots(state, name))


def _wanted_slots(state: State, name: str) -> list[Attempts]:
    """How the desired revision fared in each wanted slot."""
    known = state.of(name)
    wanted = range(1, state.wanted_count(name) + 1)
    return [known.slot(index).attempts(known.desired) for index in wanted]


def service_views(state: State, plan: Plan, now: float) -> tuple[ServiceView, ...]:
    """All services in the order of the stack file, the gateway last, removed ones after it."""
    names = sorted(state.names(), key=lambda name: name == GATEWAY)
    return tuple(service_view(state, plan, name, now) for name in names)


def service_view(state: State, plan: Plan, name: str, now: float) -> ServiceView:
    """One service as it is shown."""
    definition = state.definition(name)
    assert definition is not None, f"there is no service {name}"
    holds = tuple(h for h in plan.holds if h.service == name)
    replicas = sorted(state.replicas_of(name), key=lambda r: (r.slot or 0, r.requested_at, r.id))
    word = service_word(state, name, now)
    return ServiceView(
        name=name,
        definition=definition,
        word=word,
        reason=_reason(state, name, word, holds, now),
        desired=state.wanted_count(name),
        ready=state.ready_count(name),
        restarts=_restarts(state, name),
        replicas=tuple(replicas),
        holds=holds,
        overridden=name in state.overrides,
        warnings=_warnings(state, name, holds),
    )


def service_word(state: State, name: str, now: float) -> Word:
    """The state of a service in one word; see DESIGN's list of states."""
    service = state.definition(name)
    assert service is not None, f"there is no service {name}"
    if service.runtime in state.lost_runtimes:
        return Word.UNKNOWN
    replicas = state.replicas_of(name)
    desired = state.wanted_count(name)
    if service.is_job and state.is_completed(name) and not state.closing:
        return Word.DONE
    if desired == 0:
        return Word.STOPPING if replicas else Word.STOPPED
    known = state.of(name)
    ready = state.ready_count(name)
    if ready and ready + done_count(state, name) >= desired:
        return Word.FLAPPING if is_flapping(known.ready_changes, now) else Word.READY
    if ready > 0:
        return Word.FLAPPING if is_flapping(known.ready_changes, now) else Word.DEGRADED
    return _word_when_none_is_ready(state, service, known, replicas, now)


def _word_when_none_is_ready(
    state: State,
    service: Service,
    known: ServiceState,
    replicas: tuple[Replica, ...],
    now: float,
) -> Word:
    count = state.wanted_count(service.name)
    slots = [known.slot(index).newest for index in range(1, count + 1)]
    wanted = state.wanted_revision(service.name)
    if known.prepare_error is not None and known.prepare_error[0] == wanted:
        return Word.FAILED
    if any(s.blocked for s in slots) or known.workload.blocked:
        return Word.FAILED
    if slots and all(s.finished for s in slots):
        return Word.DONE if may_be_done(service) else Word.FAILED
    if any(s.failures >= policy.CRASH_LOOP_FAILURES for s in slots):
        return Word.CRASH_LOOP
    if any(r.is_current for r in replicas):
        return Word.STARTING
    if any(s.failures and s.retry_at > now for s in slots):
        return Word.BACKING_OFF
    if known.preparing is not None or known.desired is None:
        return Word.PREPARING
    return Word.WAITING


def _reason(state: State, name: str, word: Word, holds: Iterable[Hold], now: float) -> str:
    """The most telling sentence there is about why a service is not what it should be."""
    service = state.definition(name)
    assert service is not None
    if word in (Word.READY, Word.DONE):
        return ""
    if word is Word.UNKNOWN:
        return state.lost_runtimes[service.runtime]
    if word is Word.STOPPED:
        return "stopped by hand" if state.override(name).stopped else ""
    known = state.of(name)
    if known.preparing is not None and known.desired is None:
        return "preparing"
    for hold in holds:
        return hold.reason
    for replica in state.replicas_of(name):
        if replica.is_current and not replica.ready and replica.reason:
            return replica.reason
    overdue = overdue_seconds(state, name, now)
    if overdue is not None:
        return f"not ready within {overdue:g} s"
    slots = [known.slot(index) for index in range(1, state.wanted_count(name) + 1)]
    for slot in slots:
        if slot.newest.failures and slot.last_exit is not None:
            return f"the last replica {slot.last_exit}"
    return known.workload.error


def overdue_seconds(state: State, name: str, now: float) -> float | None:
    """The start time-out of a service when a replica of the wanted revision exceeded it, else None."""
    service = state.definition(name)
    if service is None or service.is_job:
        return None
    for replica in state.replicas_of(name):
        age = now - replica.requested_at
        is_late = not replica.was_ready and age > service.start_timeout_seconds
        # an older one gets a successor, whatever became of it
        if is_late and replica.is_current and replica.revision == state.wanted_revision(name):
            return service.start_timeout_seconds
    return None


def _warnings(state: State, name: str, holds: Iterable[Hold]) -> tuple[str, ...]:
    known = state.of(name)
    found = list(known.warnings[-policy.WARNINGS_SHOWN :])
    if known.artifact is not None:
        found += [text for text in known.artifact.warnings if text not in found]
    error = known.prepare_error
    stands_in = any(replica.is_current for replica in state.replicas_of(name))
    if stands_in and error is not None and error[0] == state.wanted_revision(name):
        found.append(f"newest source is not running: {error[1]}")
    if known.rollout_error is not None and known.rollout_error[0] == known.desired:
        found.append(f"newest source does not start: {known.rollout_error[1]}")
    if name == GATEWAY:
        found += state.gateway.warnings
        if state.gateway.load_error is not None:
            found.append(state.gateway.load_error[1])
        # only while another table is wanted: one that was not to be had may be of no interest now
        found += [h.reason for h in holds if h.reason == state.gateway.routes_error]
    return tuple(found)


def restarts(state: State, replica: Replica) -> int:
    """How often the replica's slot was filled again with nobody asking for it."""
    if replica.slot is None:
        return replica.restarts
    return state.of(replica.service).slot(replica.slot).restarts


def _restarts(state: State, name: str) -> int:
    known = state.of(name)
    slots = range(1, state.wanted_count(name) + 1)
    observed = sum(r.restarts for r in state.replicas_of(name) if r.observed)
    return observed + sum(known.slot(index).restarts for index in slots)


def is_updating(state: State, name: str) -> bool:
    """Whether replicas of an older revision still stand in for the wanted one."""
    if not state.is_listed(name) or state.wanted_count(name) == 0:
        return False
    wanted = state.wanted_revision(name)
    return any(r.is_current and r.revision != wanted for r in state.replicas_of(name))


def sentence(name: str, word: Word, reason: str) -> str:
    """`web failed: no such file`; where the reason begins with the word it is not said twice."""
    if reason.startswith(str(word).replace("-", " ")):
        return f"{name} is {reason}"
    return f"{name} {_said(word)}" + (f": {reason}" if reason else "")


def _said(word: Word) -> str:
    return _VERBS.get(word, f"is {word}")


_VERBS = {Word.FAILED: "failed", Word.CRASH_LOOP: "is in a crash loop"}
"""Where a state is not said with `is` and its word."""


def ended_for_good(state: State, name: str) -> str:
    """Why a wanted slot will not be filled again, though it should be; empty while each may be."""
    service = state.definition(name)
    if service is None:
        return ""
    for attempts in _wanted_slots(state, name):
        if attempts.blocked:
            return attempts.blocked
        if attempts.finished and not may_be_done(service):
            return f"{ENDED}; if that is all it does: `kind: job` or `port: none`"
    return ""


def waits_in_vain(state: State, name: str, now: float) -> str:
    """What a service waits for though it will not come by waiting; empty while it may."""
    service = state.definition(name)
    if service is None or state.closing:
        return ""
    for dependency in service.depends_on:
        target = dependency.service
        if state.satisfies(target, dependency.condition) or state.definition(target) is None:
            continue
        word = service_word(state, target, now)
        if word in (Word.STOPPED, Word.DONE) or word.is_for_good:
            return f"waiting for {dependency}, which {_said(word)}"
        if word is Word.WAITING and (deeper := waits_in_vain(state, target, now)):
            return deeper
    return ""


def failures_for_good(state: State, plan: Plan, now: float) -> tuple[tuple[str, str], ...]:
    """(service, reason) of each one that will not become ready by waiting."""
    found: list[tuple[str, str]] = []
    for view in service_views(state, plan, now):
        known = state.of(view.name)
        wanted = state.wanted_revision(view.name)
        if ended := ended_for_good(state, view.name):
            found.append((view.name, ended))
        elif view.word is Word.WAITING and (vain := waits_in_vain(state, view.name, now)):
            found.append((view.name, vain))
        elif view.word.is_for_good:
            found.append((view.name, view.reason))
        elif known.prepare_error is not None and known.prepare_error[0] == wanted:
            found.append((view.name, known.prepare_error[1]))
        elif view.word is Word.STARTING and (
            (seconds := overdue_seconds(state, view.name, now)) is not None
        ):
            found.append((view.name, view.reason or f"not ready within {seconds:g} s"))
    refused = state.gateway.load_error
    if refused is not None and refused[0] == wanted_shape(state) and state.is_ready(GATEWAY):
        found.append((GATEWAY, refused[1]))
    return tuple(found)
