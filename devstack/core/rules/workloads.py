"""What a cluster is told: how many of which revision, and when a workload goes."""

from devstack.core.ops import ApplyWorkload, RemoveWorkload
from devstack.core.rules.draft import Draft
from devstack.core.rules.starting import unmet_dependency
from devstack.core.state import State


def apply_workloads(state: State, draft: Draft) -> None:
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
        elif not workload.exists and (unmet := unmet_dependency(state, service)):
            draft.hold(name, None, unmet)
        else:
            cause = f"{count} of revision {known.desired} wanted"
            draft.op(f"workload:{name}", ApplyWorkload(name, known.desired, count, cause))


def remove_workloads(state: State, draft: Draft) -> None:
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
