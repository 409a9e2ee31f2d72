"""How a replica's end is counted: what was asked for, losses, jobs, failures and back-off."""

from dataclasses import replace

from devstack.core import events as e
from devstack.core import policy
from devstack.core.blame import summary
from devstack.core.events import Attempts
from devstack.core.model import GATEWAY, Restart
from devstack.core.reducers.edit import edit_service, edit_slot, without
from devstack.core.state import GatewayState, Phase, Replica, State


def replica_start_failed(state: State, event: e.ReplicaStartFailed) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    state = replace(state, replicas=without(state.replicas, replica.id))
    exit_ = e.Exit(code=None, message=event.message)
    if replica.slot is None:
        return state
    if _was_asked_for(replica):
        return edit_slot(state, replica.service, replica.slot, last_exit=exit_)
    blocked = event.message if event.permanent else ""
    return _count_failure(state, replica, exit_, event.at, event.jitter, blocked)


def replica_start_skipped(state: State, event: e.ReplicaStartSkipped) -> State:
    return replace(state, replicas=without(state.replicas, event.replica))


def replica_exited(state: State, event: e.ReplicaExited) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    state = replace(state, replicas=without(state.replicas, replica.id))
    if replica.service == GATEWAY:
        state = replace(state, gateway=GatewayState(warnings=state.gateway.warnings))
    if replica.slot is None:
        return state
    if event.is_loss or _was_asked_for(replica):
        return edit_slot(state, replica.service, replica.slot, last_exit=event.exit)
    exit_ = event.exit
    if replica.stop_is_failure and replica.stop_cause and not exit_.message:
        exit_ = replace(exit_, message=replica.stop_cause)
    failed = replica.stop_is_failure or not exit_.is_success
    definition = state.definition(replica.service)
    restart = definition.restart if definition is not None else Restart.ALWAYS
    is_job = definition is not None and definition.is_job
    if is_job and not failed:
        return _complete(state, replica, exit_)
    if not failed and restart is not Restart.ALWAYS:
        finished = Attempts(replica.revision, finished=True)
        return _record(state, replica, finished, exit_)
    blocked = _for_good(replica, exit_) if is_job or restart is Restart.NEVER else ""
    return _count_failure(state, replica, exit_, event.at, event.jitter, blocked)


def _for_good(replica: Replica, exit_: e.Exit) -> str:
    """What to say of a program that is not started again: its exit and its last words."""
    told, last = str(exit_), summary(exit_)
    return f"{replica.service} {last if last.startswith(told) else f'{told}: {last}'}"


def _was_asked_for(replica: Replica) -> bool:
    """Whether it ended because it was to end; one on its way out may do so by itself."""
    return (replica.phase is Phase.STOPPING or replica.draining) and not replica.stop_is_failure


def _complete(state: State, replica: Replica, exit_: e.Exit) -> State:
    """A job is done for the revision that ran, which need not be the newest any more."""
    key = state.job_key(replica.service, replica.revision)
    done = state.of(replica.service).completed | ({key} if key is not None else set())
    state = edit_service(state, replica.service, completed=done)
    return _record(state, replica, Attempts(replica.revision), exit_)


def _count_failure(
    state: State, replica: Replica, exit_: e.Exit, at: float, jitter: float, blocked: str
) -> State:
    assert replica.slot is not None
    service = state.of(replica.service)
    before = 0 if _had_good_life(replica, at) else _attempts(state, replica).failures
    failures = before + 1
    retry_at = at + policy.restart_delay(failures, jitter)
    state = _record(state, replica, Attempts(replica.revision, failures, retry_at, blocked), exit_)
    if not blocked:
        restarts = service.slot(replica.slot).restarts + 1
        state = edit_slot(state, replica.service, replica.slot, restarts=restarts)
    stands_in = service.good not in (None, service.desired)
    if replica.revision == service.desired and not replica.was_ready and stands_in:
        error = (replica.revision, summary(exit_))
        state = edit_service(state, replica.service, rollout_error=error)
    return state


def _had_good_life(replica: Replica, at: float) -> bool:
    since = replica.ready_at
    return since is not None and at - since >= policy.RESET_AFTER_READY_SECONDS


def _attempts(state: State, replica: Replica) -> Attempts:
    assert replica.slot is not None
    return state.of(replica.service).slot(replica.slot).attempts(replica.revision)


def _record(state: State, replica: Replica, attempts: Attempts, exit_: e.Exit) -> State:
    """Keep how a revision fared: the desired one's beside that of an older one that stands in."""
    assert replica.slot is not None
    service = state.of(replica.service)
    slot = replace(service.slot(replica.slot), last_exit=exit_)
    if service.desired is not None and replica.revision != service.desired:
        newest = slot.newest if slot.newest.revision != replica.revision else Attempts()
        slot = replace(slot, newest=newest, older=attempts)
    else:
        older = slot.older if slot.older.revision != replica.revision else Attempts()
        slot = replace(slot, newest=attempts, older=older)
    return edit_service(state, replica.service, slots={**service.slots, replica.slot: slot})


def job_recalled(state: State, event: e.JobRecalled) -> State:
    service = state.of(event.service)
    return edit_service(state, event.service, completed=service.completed | set(event.keys))
