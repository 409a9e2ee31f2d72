"""A stack that closes: dependents first, after the gateway answers 503; nothing is drained."""

from devstack.core import events as e
from tests.support.history import History, cloud, database, needs, nginx, web, worker


def shop() -> History:
    core = History()
    core.up(nginx(), database(), web(depends_on=needs("db")), worker("idle"))
    for name in ("gateway", "db", "web", "idle"):
        core.prepared(name)
    core.start("gateway.1#1")
    core.loaded()
    core.routed()
    core.start("db.1#1")
    core.routed()  # web is starting
    core.start("web.1#1")
    core.routed()
    core.start("idle.1#1")
    return core


def test_first_the_gateway_routes_to_nobody_then_dependents_stop_then_what_they_need() -> None:
    core = shop()

    assert core.tell(e.DownRequested()) == ["stop idle.1#1: down", "routes"]
    assert core.holds("web") == ["stops when the gateway routes to nobody"]
    assert core.state.gateway.setting is not None
    assert core.state.gateway.setting.waiting == {"web": "web is stopping"}
    assert core.routed()[0] == "stop web.1#1: down"
    assert core.holds("db") == ["stops after web"]
    assert core.exited("web.1#1") == ["stop gateway.1#1: down", "stop db.1#1: down"]
    core.exited("gateway.1#1")
    core.exited("db.1#1")
    core.exited("idle.1#1")
    assert core.state.is_empty


def test_a_gateway_that_does_not_answer_is_not_waited_for() -> None:
    core = shop()
    core.tell(e.DownRequested())

    assert core.tell(e.RoutesFailed("no answer")) == ["stop web.1#1: down"]


def test_a_gateway_that_does_not_answer_is_not_waited_for_however_late_that_is_acted_on() -> None:
    core = shop()
    core.tell(e.DownRequested())
    core.record(e.RoutesFailed("no answer"))

    assert core.wait(60) == ["stop web.1#1: down", "routes"]


def test_a_gateway_that_did_not_answer_before_is_asked_once_more() -> None:
    core = shop()
    core.tell(e.ReadinessChanged("web.1#1", ready=False, reason="503"))
    core.tell(e.RoutesFailed("no answer"))

    core.tell(e.DownRequested())
    assert core.holds("web") == ["stops when the gateway routes to nobody"]
    core.wait(1)
    assert core.routed()[0] == "stop web.1#1: down"


def test_a_closing_stack_prepares_starts_and_restarts_nothing() -> None:
    core = shop()
    core.tell(e.SourceChanged("idle", "source-2"), e.DownRequested())
    core.routed()

    assert core.exited("idle.1#1", 1) == []
    assert core.tell(e.LivenessFailed("db.1#1", "no answer")) == []
    assert core.wait(60) == []


def test_a_replica_that_drains_is_stopped_in_its_turn() -> None:
    core = shop()
    core.tell(e.ScaleRequested("web", 0))
    core.routed()
    assert core.replica("web.1#1").draining

    assert core.tell(e.DownRequested()) == [
        "stop idle.1#1: down",
        "stop web.1#1: down",
    ]
    assert core.holds("db") == ["stops after web"]


def test_a_starting_replica_is_stopped_too() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")

    assert core.tell(e.DownRequested()) == ["stop worker.1#1: down"]


def test_a_stack_that_closes_goes_on_closing_whatever_is_applied_meanwhile() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.tell(e.DownRequested())

    assert core.up(worker(), worker("other")) == []
    assert core.exited("worker.1#1") == []
    assert core.state.closing
    assert core.state.is_empty


def test_workloads_are_removed_after_their_dependents() -> None:
    core = History()
    core.up(cloud(), worker(depends_on=needs("cloud")))
    core.prepared("cloud")
    core.prepared("worker")
    revision = core.state.of("cloud").desired
    assert revision is not None
    core.tell(e.WorkloadApplied("cloud", revision, 1))
    pods = (e.ObservedReplica("cloud-1", ready=True),)
    assert core.tell(e.WorkloadObserved("cloud", pods)) == ["start worker.1#1"]

    assert core.tell(e.DownRequested()) == ["stop worker.1#1: down"]
    assert core.holds("cloud") == ["stops after its dependents"]
    assert core.exited("worker.1#1") == ["remove cloud"]
    assert not core.state.is_empty
    core.tell(e.WorkloadRemoved("cloud"))
    assert core.state.is_empty
