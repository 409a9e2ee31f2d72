"""Which revisions something still runs from, or would be started from."""

from devstack.core.events import (
    Artifact,
    DownRequested,
    Event,
    PrepareFailed,
    PrepareStarted,
    PrepareSucceeded,
    ReadinessChanged,
    ReplicaExited,
    ReplicaSpawned,
    ReplicaStartRequested,
    SourceChanged,
    StackApplied,
)
from devstack.core.events import Exit as ReplicaExit
from devstack.core.reduce import reduce
from devstack.core.state import State
from devstack.engine.tidying import revisions_in_use
from tests.engine.kit import service, stack_of


def after(state: State, *events: Event) -> State:
    for event in events:
        state = reduce(state, event)
    return state


def newest(state: State) -> str:
    revision = state.wanted_revision("web")
    assert revision is not None
    return revision


def prepared(state: State) -> State:
    revision = newest(state)
    return after(
        state,
        PrepareStarted("web", revision),
        PrepareSucceeded("web", revision, Artifact("d", is_compiled=True)),
    )


def served(state: State, replica: str) -> State:
    return after(
        state,
        ReplicaStartRequested(replica, "web", 1, newest(state), "fill"),
        ReplicaSpawned(replica, 4242, (), 1.0),
        ReadinessChanged(replica, True),
    )


APPLIED = after(State(), StackApplied(stack_of(service("web")), (("web", "s1"),)))


def test_of_a_service_that_was_not_prepared_yet_nothing_is_known() -> None:
    making = after(APPLIED, PrepareStarted("web", newest(APPLIED)))

    assert revisions_in_use(making) == {}


def test_an_update_keeps_the_old_revision_until_its_last_replica_is_gone() -> None:
    old = served(prepared(APPLIED), "web.1#1")
    changed = after(old, SourceChanged("web", "s2"))
    making = after(changed, PrepareStarted("web", newest(changed)))
    both = served(prepared(changed), "web.1#2")
    gone = after(both, ReplicaExited("web.1#1", ReplicaExit(code=0, signal=None)))

    assert revisions_in_use(old) == {"web": {newest(old)}}
    assert revisions_in_use(making) == {"web": {newest(old), newest(changed)}}
    assert revisions_in_use(both) == {"web": {newest(old), newest(changed)}}
    assert revisions_in_use(gone) == {"web": {newest(changed)}}


def test_the_last_good_revision_is_kept_while_a_newer_is_not_proved() -> None:
    old = served(prepared(APPLIED), "web.1#1")
    changed = after(old, SourceChanged("web", "s2"))
    failed = after(
        changed,
        PrepareStarted("web", newest(changed)),
        PrepareFailed("web", newest(changed), "does not build"),
        ReplicaExited("web.1#1", ReplicaExit(code=1, signal=None)),
    )
    unproved = after(prepared(changed), ReplicaExited("web.1#1", ReplicaExit(code=1, signal=None)))

    assert revisions_in_use(failed) == {"web": {newest(old)}}
    assert revisions_in_use(unproved) == {"web": {newest(old), newest(changed)}}


def test_a_stack_that_is_going_down_lets_go_of_nothing() -> None:
    """The next `up` starts from what there is."""
    assert (
        revisions_in_use(after(served(prepared(APPLIED), "web.1#1"), DownRequested("down"))) == {}
    )
