"""What `devstack why` says: from the most telling to the details."""

from devstack.core.events import (
    Artifact,
    Event,
    Exit,
    PrepareStarted,
    PrepareSucceeded,
    ReadinessChanged,
    ReplicaExited,
    ReplicaSpawned,
    ReplicaStartRequested,
    ReplicaWarned,
    StackApplied,
    StopRequested,
)
from devstack.core.model import Condition, Dependency
from devstack.core.reconcile import reconcile
from devstack.core.reduce import reduce
from devstack.core.state import State
from devstack.core.tell import Line
from devstack.engine.why import explain, lately
from tests.engine.kit import database, service, stack_of

STACK = stack_of(service("web", depends_on=(Dependency("db", Condition.READY),)), database("db"))
APPLIED = StackApplied(STACK, (("web", "s1"),))


def after(*events: Event) -> State:
    state = reduce(State(), APPLIED)
    for event in events:
        state = reduce(state, event)
    return state


def told(state: State, name: str = "web", now: float = 10.0) -> list[str]:
    return list(explain(state, reconcile(state, now), name, now))


def prepared(name: str) -> tuple[Event, ...]:
    revision = after().wanted_revision(name)
    assert revision is not None
    artifact = Artifact("d1", notes=("Python 3.11 (PATH)",))
    return (
        PrepareStarted(name, revision),
        PrepareSucceeded(name, revision, artifact),
    )


def started(name: str, number: int = 1) -> tuple[Event, ...]:
    revision = after().wanted_revision(name)
    assert revision is not None
    replica = f"{name}.1#{number}"
    return (
        ReplicaStartRequested(replica, name, 1, revision, "fill"),
        ReplicaSpawned(replica, 4242, (), 1.0),
    )


def test_what_it_waits_for_is_named_with_its_state() -> None:
    lines = told(after(*prepared("web")))

    assert lines[0] == "web is waiting for db (ready)"
    assert "needs db (ready), which is preparing" in lines
    assert "note: Python 3.11 (PATH)" in lines


def test_a_replica_is_told_with_its_pid_and_what_it_lacks() -> None:
    state = after(*prepared("db"), *started("db"))
    state = reduce(state, ReadinessChanged("db.1#1", ready=False, reason="nothing listens"))
    assert "db.1#1: nothing listens (pid 4242)" in told(state, "db")

    state = reduce(state, ReadinessChanged("db.1#1", ready=True))
    state = reduce(state, ReplicaWarned("db.1#1", "listens beyond loopback"))
    assert told(state, "db")[0] == "db is ready"
    assert "db.1#1: ready (pid 4242)" in told(state, "db")
    assert any("listens beyond loopback" in line for line in told(state, "db"))


def test_the_last_words_of_what_failed_are_told_and_when_it_is_tried_again() -> None:
    gone = ReplicaExited("db.1#1", Exit(3, tail=("boom", "at line 7"), wall=1.0), at=10.0)
    lines = told(after(*prepared("db"), *started("db"), gone), "db", now=10.1)

    assert lines[0] == "db is backing off: exited with code 3: at line 7"
    assert any("tried again in 0." in line for line in lines)
    at = next(i for i, line in enumerate(lines) if "db.1 failed once" in line)
    assert "exited with code 3" in lines[at]
    assert lines[at + 1 : at + 3] == ["  | boom", "  | at line 7"]


def test_what_is_stopped_by_wish_says_so() -> None:
    assert told(after(StopRequested("web")))[0].startswith("web is stopped")


def test_the_newest_lines_of_the_service_itself_say_what_happened() -> None:
    history = [(float(n), Line("web", f"web.1#{n} started\nmore")) for n in range(1, 13)]
    others = [(13.0, Line("db", "preparing")), (14.0, Line(None, "a new controller"))]

    lines = lately([*history, *others], "web")

    assert lines[0] == "what happened:"
    assert [line.partition("  ")[2].partition("  ")[2] for line in lines[1:]] == [
        f"web.1#{n} started" for n in range(3, 13)
    ]
    assert lately(others, "web") == ()
