"""Which revision a slot may start, and what a service waits for before it starts anything."""

from devstack.core import policy
from devstack.core.model import GATEWAY, Dependency, Service, Update
from devstack.core.state import State


def never_two(service: Service) -> bool:
    """Whether two replicas must never share a slot: data, or a port that cannot be told."""
    return service.update is Update.RECREATE or service.has_fixed_port


def startable(state: State, name: str) -> str | None:
    """The desired revision, where it can still be started.

    An interpreted service runs from its working tree, so that only the newest revision can be; a
    compiled one starts from its artifact alone.
    """
    known = state.of(name)
    if known.artifact is not None and known.artifact.is_compiled:
        return known.desired
    return known.desired if known.desired == state.wanted_revision(name) else None


def revision_to_start(state: State, service: Service, slot: int) -> str | None:
    """What fills a slot: the desired revision, or the last good one while that one does not start.

    Where two never share a slot, trying the desired one again means that nothing serves; so it gets
    all its tries first, and then the last good one stays.
    """
    known = state.of(service.name)
    revision = startable(state, service.name)
    if revision is None or known.good is None or known.good == revision:
        return revision
    if known.good_artifact is None or not known.good_artifact.is_compiled:
        return revision
    if never_two(service):
        attempts = known.slot(slot).attempts(revision)
        fails = bool(attempts.blocked) or attempts.failures >= policy.CRASH_LOOP_FAILURES
    else:
        fails = known.rollout_error is not None and known.rollout_error[0] == revision
    return known.good if fails else revision


def not_prepared(state: State, name: str) -> str:
    """Why there is nothing to start yet."""
    error = state.of(name).prepare_error
    if error is not None and error[0] == state.wanted_revision(name):
        return error[1]
    return "preparing"


def missing_dependency(state: State, service: Service) -> Dependency | None:
    """The first dependency of the file that is not so far."""
    for dependency in service.depends_on:
        if not state.satisfies(dependency.service, dependency.condition):
            return dependency
    return None


def unmet_dependency(state: State, service: Service) -> str:
    """What a service waits for before it starts anything; empty when it may."""
    missing = missing_dependency(state, service)
    if missing is not None:
        return f"waiting for {missing}"
    if service.is_balanced and state.is_listed(GATEWAY) and not state.of(GATEWAY).good:
        # nothing waits for more than the first load: a gateway that is gone for a moment comes back
        return f"waiting for {GATEWAY} (first load)"
    return ""
