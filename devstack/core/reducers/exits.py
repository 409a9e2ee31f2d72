"""How a replica's end is counted: what was asked for, losses, jobs, failures and back-off."""

from dataclasses import replace

from devstack.core import events as e
from devstack.core import policy
from devstack.core.model import GATEWAY, Restart, Service
from devstack.core.reducers.edit import edit_service, edit_slot, without
from devstack.core.state import (
    GatewayState,
    Phase,
    State,
)


def replica_start_failed(state: State, event: e.ReplicaStartFailed) -> State:
    replica = state.replicas.get(event.replica)
    if replica is None:
        return state
    state = replace(state, replicas=without(state.replicas, replica.id))
    if replica.slot is None:
        return state
    slot = state.of(replica.service).slot(replica.slot)
    failures = slot.failures + 1
    return edit_slot(
        state,
        replica.service,
        replica.slot,
        failures=failures,
        failed_revision=replica.revision,
        retry_at=event.at + policy.restart_delay(failures, event.jitter),
        last_exit=e.Exit(code=None, message=event.message),
        blocked=event.message if event.permanent else "",
    )


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
    service = state.of(replica.service)
    slot = service.slot(replica.slot)
    if event.is_loss:
        return edit_slot(state, replica.service, replica.slot, last_exit=event.exit, retry_at=0.0)
    requested = replica.phase is Phase.STOPPING and not replica.stop_is_failure
    definition = state.definition(replica.service)
    if definition is not None and definition.is_job and not requested:
        if event.exit.is_success:
            key = state.job_key(replica.service)
            done = service.completed | ({key} if key is not None else set())
            state = edit_service(state, replica.service, completed=done)
            return edit_slot(
                state, replica.service, replica.slot, last_exit=event.exit, failures=0, blocked=""
            )
        return edit_slot(
            state,
            replica.service,
            replica.slot,
            last_exit=event.exit,
            failures=slot.failures + 1,
            failed_revision=replica.revision,
            blocked=f"{replica.service} {event.exit}",
        )
    if requested:
        return edit_slot(state, replica.service, replica.slot, last_exit=event.exit)
    ended = _ended_for_good(definition, event.exit)
    if ended:
        return edit_slot(
            state,
            replica.service,
            replica.slot,
            last_exit=event.exit,
            failed_revision=replica.revision,
            failures=0 if event.exit.is_success else slot.failures + 1,
            finished=event.exit.is_success,
            blocked="" if event.exit.is_success else f"{replica.service} {event.exit}",
        )
    # was it ready long enough to count as a good life?
    good_life = (
        replica.ready_at is not None
        and event.at - replica.ready_at >= policy.RESET_AFTER_READY_SECONDS
    )
    failures = (0 if good_life else slot.failures) + 1
    exit_ = event.exit
    if replica.stop_is_failure and replica.stop_cause and not exit_.message:
        exit_ = replace(exit_, message=replica.stop_cause)
    state = edit_slot(
        state,
        replica.service,
        replica.slot,
        failures=failures,
        failed_revision=replica.revision,
        retry_at=event.at + policy.restart_delay(failures, event.jitter),
        last_exit=exit_,
    )
    if (
        replica.revision == service.desired
        and not replica.was_ready
        and service.good != service.desired
    ):
        state = edit_service(
            state, replica.service, rollout_error=(replica.revision, _summary(exit_))
        )
    return state


def _ended_for_good(definition: Service | None, exit_: e.Exit) -> bool:
    """Whether the restart policy leaves the slot empty after this end."""
    if definition is None:
        return False
    match definition.restart:
        case Restart.ALWAYS:
            return False
        case Restart.ON_FAILURE:
            return exit_.is_success
        case Restart.NEVER:
            return True


def _summary(exit_: e.Exit) -> str:
    """One line that says why a source does not start: its last words, else how it ended."""
    last = next((line.strip() for line in reversed(exit_.tail) if line.strip()), "")
    return f"{exit_}: {last}" if last else str(exit_)


def job_recalled(state: State, event: e.JobRecalled) -> State:
    service = state.of(event.service)
    return edit_service(state, event.service, completed=service.completed | set(event.keys))
