"""A cluster is told what is wanted when that changes; what it shows never causes an op."""

from devstack.core import events as e
from tests.support.history import History, cloud, needs, worker


def applied(count: int = 2) -> History:
    core = History()
    core.up(cloud(replicas=count))
    core.prepared("cloud")
    core.tell(told(core, count))
    return core


def told(core: History, count: int) -> e.Event:
    revision = core.state.of("cloud").desired
    assert revision is not None
    return e.WorkloadApplied("cloud", revision, count)


def pods(*names: str, ready: bool = True) -> e.Event:
    return e.WorkloadObserved("cloud", tuple(e.ObservedReplica(n, ready) for n in names))


def test_it_is_applied_once_prepared_and_then_left_alone() -> None:
    core = History()
    core.up(cloud(replicas=2))
    assert core.holds("cloud") == ["preparing"]

    assert core.prepared("cloud") == ["apply cloud*2"]
    assert core.tell(told(core, 2)) == []
    assert core.wait(3600) == []


def test_what_is_observed_enters_state_and_never_causes_an_op() -> None:
    core = applied()

    for seen in (pods(), pods("a", "b"), pods("a"), pods("a", "b", "c"), pods("d", ready=False)):
        assert core.tell(seen) == []
    assert core.running("cloud") == ["d"]
    assert core.state.ready_count("cloud") == 0
    core.tell(pods("a", "b"))
    assert core.state.ready_count("cloud") == 2


def test_another_count_or_revision_is_applied() -> None:
    core = applied()

    assert core.tell(e.ScaleRequested("cloud", 5)) == ["apply cloud*5"]
    core.tell(told(core, 5))
    core.tell(e.SourceChanged("cloud", "source-2"))
    assert core.prepared("cloud") == ["apply cloud*5"]


def test_of_changes_while_it_is_applied_the_last_one_follows() -> None:
    core = applied()
    core.tell(e.ScaleRequested("cloud", 3))

    assert core.tell(e.ScaleRequested("cloud", 4), e.ScaleRequested("cloud", 5)) == []
    assert core.tell(told(core, 3)) == ["apply cloud*5"]


def test_a_refusal_is_tried_again_after_the_back_off() -> None:
    core = applied()
    core.tell(e.ScaleRequested("cloud", 3))

    assert core.tell(e.WorkloadFailed("cloud", "cluster says no")) == []
    assert core.holds("cloud") == ["cluster says no"]
    assert core.wait(0.5) == ["apply cloud*3"]


def test_a_refusal_for_good_is_held_until_somebody_asks_again() -> None:
    core = applied()
    core.tell(e.ScaleRequested("cloud", 3))
    core.tell(e.WorkloadFailed("cloud", "no such image", permanent=True))

    assert core.wait(3600) == []
    assert core.holds("cloud") == ["no such image"]
    assert core.tell(e.StartRequested("cloud")) == ["apply cloud*3"]


def test_stopped_it_is_scaled_to_nothing_and_started_back() -> None:
    core = applied()

    assert core.tell(e.StopRequested("cloud")) == ["apply cloud*0"]
    core.tell(told(core, 0))
    assert core.tell(e.StartRequested("cloud")) == ["apply cloud*2"]


def test_a_first_apply_waits_for_dependencies_and_later_ones_do_not() -> None:
    core = History()
    core.up(worker("db"), cloud(depends_on=needs("db")))
    core.prepared("cloud")
    core.prepared("db")
    assert core.holds("cloud") == ["waiting for db (ready)"]
    assert core.start("db.1#1") == ["apply cloud*1"]
    core.tell(told(core, 1))

    core.exited("db.1#1", 1)
    assert core.tell(e.ScaleRequested("cloud", 2)) == ["apply cloud*2"]


def test_removed_from_the_file_it_is_removed_from_the_cluster() -> None:
    core = applied()
    core.tell(pods("a", "b"))

    assert core.up(worker()) == ["prepare worker", "remove cloud"]
    assert core.state.of("cloud").workload.removing
    core.tell(e.WorkloadRemoved("cloud"))
    assert core.running("cloud") == []
    assert core.state.removed == {}


def test_a_lost_cluster_is_told_nothing() -> None:
    core = applied()
    core.tell(e.RuntimeLost("fake-workload", "the cluster does not answer"))

    assert core.tell(e.ScaleRequested("cloud", 3)) == []
    assert core.holds("cloud") == ["the cluster does not answer"]
    assert core.tell(e.RuntimeFound("fake-workload")) == ["apply cloud*3"]


def test_what_a_cluster_says_about_a_workload_that_is_gone_changes_nothing() -> None:
    core = applied()
    core.up(worker())
    core.tell(e.WorkloadRemoved("cloud"))
    before = core.state

    core.tell(pods("a"))
    assert core.state == before
