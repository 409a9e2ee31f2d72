"""When a command is done, and whether it went well: pure questions that waiting commands ask.

`scale`, `restart` and `--wait` answer when new replicas serve and the new routes are in force, not
when old replicas have gone.
"""

from devstack.core import policy
from devstack.core.reconcile import leaving
from devstack.core.rules.filling import ENDED
from devstack.core.shape import wanted_shape
from devstack.core.state import Phase, State
from devstack.core.table import wanted_table
from devstack.core.view import (
    done_count,
    ended_for_good,
    is_updating,
    overdue_seconds,
    service_word,
    waits_in_vain,
)


def routes_in_force(state: State, name: str) -> bool:
    """Whether the gateway sends requests for a service to just its ready, wanted replicas."""
    service = state.definition(name)
    if service is None or not service.is_balanced or not state.gateway_running:
        return True
    table = state.gateway.table
    if table is None or state.gateway.setting is not None or not _slots_are_known(state, name):
        return False
    wanted = wanted_table(state, frozenset(leaving(state)))
    keys = [key for key in {*wanted.ready, *table.ready} if key.split(".")[0] == name]
    return all(wanted.ready.get(key) == table.ready.get(key) for key in keys)


def _slots_are_known(state: State, name: str) -> bool:
    """Whether NGINX has loaded all slots of a service: it sends no requests to others."""
    loaded = state.gateway.loaded
    if loaded is None or not state.owns_replicas(name):
        return True
    return dict(loaded.slots).get(name, 0) >= state.wanted_count(name)


def configuration_in_force(state: State) -> bool:
    """Whether NGINX has loaded the routes, names and slots that the stack wants."""
    if not state.gateway_running:
        return True
    return state.gateway.loading is None and state.gateway.loaded == wanted_shape(state)


def is_scaled(state: State, name: str) -> bool:
    """Whether as many replicas serve as are wanted, and no others get requests."""
    wanted = state.wanted_count(name)
    if state.ready_count(name) + done_count(state, name) < wanted or not routes_in_force(
        state, name
    ):
        return False
    return wanted > 0 or not any(
        r.is_current and r.phase is not Phase.STOPPING for r in state.replicas_of(name)
    )


def is_current(state: State, name: str) -> bool:
    """Whether every wanted replica has the newest revision, is ready and gets its requests."""
    service = state.definition(name)
    if service is not None and service.is_job:
        return state.is_completed(name)
    return not is_updating(state, name) and (
        state.of(name).desired == state.wanted_revision(name)
        and is_scaled(state, name)
        and not any(r.id in leaving(state) for r in state.replicas_of(name))
    )


def is_down(state: State, name: str) -> bool:
    """Whether nothing of a service runs, what prepares it included."""
    return not state.replicas_of(name) and state.of(name).preparing is None


def routes_failure(state: State, name: str) -> str:
    """Why callers will not reach a service's new replicas; empty while they may."""
    if routes_in_force(state, name):
        return ""
    refused = state.gateway.load_error
    if (
        refused is not None
        and refused[0] == wanted_shape(state)
        and not _slots_are_known(state, name)
    ):
        return refused[1]
    return state.gateway.routes_error if state.gateway.is_deaf else ""


def update_failure(state: State, name: str, now: float) -> str:
    """Why the newest revision will not serve; empty while it still may."""
    if deaf := routes_failure(state, name):
        return deaf
    known = state.of(name)
    wanted = state.wanted_revision(name)
    if known.prepare_error is not None and known.prepare_error[0] == wanted:
        return known.prepare_error[1]
    if known.desired != wanted:
        return ""
    for index in range(1, max(1, state.wanted_count(name)) + 1):
        slot = known.slot(index)
        if slot.newest.revision != wanted or slot.last_exit is None:
            continue
        stands_in = any(r.is_current and r.revision != wanted for r in state.on_slot(name, index))
        if slot.newest.finished and (stands_in or ended_for_good(state, name)):
            return ended_for_good(state, name) or f"{name} {ENDED}"
        for_good = slot.newest.blocked or slot.newest.failures >= policy.CRASH_LOOP_FAILURES
        if for_good or "not ready within" in slot.last_exit.message:
            ended = slot.newest.blocked or f"{name} {slot.last_exit}"
            error = known.rollout_error
            newest = [f"{name}: newest source does not start: {error[1]}"] if error else []
            return "\n".join([*newest, ended, *slot.last_exit.tail])
    seconds = overdue_seconds(state, name, now)
    if seconds is not None and known.good != wanted:
        reasons = (r.reason for r in state.replicas_of(name) if r.revision == wanted)
        reason = next(filter(None, reasons), "")
        return f"{name} is not ready within {seconds:g} s" + (f": {reason}" if reason else "")
    return ""


def dependency_failure(state: State, name: str, now: float) -> str:
    """Why a replica that is still to be started will not be; empty while it may.

    Not for the first moment of a command: what it waits for may be started by another beside it.
    """
    wanted = state.wanted_revision(name)
    for slot in range(1, state.wanted_count(name) + 1):
        here = state.on_slot(name, slot)
        if not any(r.is_current and r.revision == wanted for r in here):
            return waits_in_vain(state, name, now)
    return ""


def scale_failure(state: State, name: str, now: float) -> str:
    """Why there will not be as many replicas as wanted; empty while there may be.

    A compiled service scales with its last good artifact while its newest source does not build or start.
    """
    known = state.of(name)
    compiled = known.good_artifact is not None and known.good_artifact.is_compiled
    if compiled and known.good != state.wanted_revision(name):
        return routes_failure(state, name)
    return update_failure(state, name, now)


def is_settled(state: State, now: float) -> bool:
    """Whether the whole stack is as it is wanted: ready, done or stopped, in its newest revision."""
    if state.stack is None or not configuration_in_force(state):
        return False
    return all(
        service_word(state, name, now).is_settled
        and not is_updating(state, name)
        and routes_in_force(state, name)
        for name in state.stack.services
    )
