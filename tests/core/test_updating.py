"""New revisions: rolling with a canary, recreate, stand-ins, and ports per slot."""

from devstack.core import events as e
from devstack.core.model import Endpoint, Update
from devstack.core.state import Phase
from tests.support.history import History, database, needs, nginx, web, worker


def serving(count: int = 1, *, compiled: bool = False, **changes: object) -> History:
    core = History()
    core.up(worker(replicas=count, **changes))
    core.prepared("worker", compiled=compiled)
    for slot in range(1, count + 1):
        core.start(f"worker.{slot}#1")
    return core


def save(core: History, digest: str = "source-2", *, compiled: bool = False) -> list[str]:
    core.tell(e.SourceChanged("worker", digest))
    return core.prepared("worker", compiled=compiled)


def test_the_old_replica_goes_only_when_its_successor_is_ready() -> None:
    core = serving()

    assert save(core) == ["start worker.1#2"]
    assert core.spawned("worker.1#2") == []
    assert core.ready("worker.1#2") == ["stop worker.1#1: replaced by worker.1#2"]


def test_one_canary_first_and_then_a_quarter_at_a_time() -> None:
    core = serving(8)

    assert save(core) == ["start worker.1#2"]
    assert core.holds("worker") == ["waits for its turn in the update"] * 7
    assert core.start("worker.1#2") == [
        "stop worker.1#1: replaced by worker.1#2",
        "start worker.2#2",
        "start worker.3#2",
    ]
    assert core.start("worker.2#2") == [
        "stop worker.2#1: replaced by worker.2#2",
        "start worker.4#2",
    ]


def test_a_canary_that_fails_is_tried_in_its_own_slot_and_the_others_are_left_alone() -> None:
    core = serving(3)
    save(core)
    core.spawned("worker.1#2")

    assert core.exited("worker.1#2", 1) == []
    assert core.wait(0.5) == ["start worker.1#3"]
    assert core.holds("worker") == ["waits for its turn in the update"] * 2
    assert core.running("worker") == ["worker.1#1", "worker.1#3", "worker.2#1", "worker.3#1"]


def test_what_was_never_ready_and_has_a_successor_that_is_has_not_failed_by_that() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.spawned("worker.1#1")
    core.wait(121)
    save(core)
    core.spawned("worker.1#2")

    assert core.ready("worker.1#2") == ["stop worker.1#1: replaced by worker.1#2"]


def test_what_is_not_ready_in_time_is_stopped_while_the_old_one_serves() -> None:
    core = serving()
    save(core)
    core.spawned("worker.1#2")
    core.unready("worker.1#2", "GET /healthz answers 500")

    assert core.wait(119) == []
    assert core.wait(1) == ["fail worker.1#2: not ready within 120 s: GET /healthz answers 500"]
    core.exited("worker.1#2", 0)
    assert core.running("worker") == ["worker.1#1"]
    assert core.holds("worker") == [
        "newest source does not start: not ready within 120 s: GET /healthz answers 500"
    ]


def test_a_first_start_that_takes_longer_than_it_may_is_not_stopped() -> None:
    core = History()
    core.up(worker())
    core.prepared("worker")
    core.spawned("worker.1#1")

    assert core.wait(3600) == []


def test_an_interpreted_slot_whose_old_replica_dies_is_held_with_the_reason() -> None:
    core = serving(2)
    save(core)
    core.spawned("worker.1#2")
    tail = ('  File "/shop/app.py", line 12, in <module>', "NameError: name 'x' is not defined")
    core.tell(e.ReplicaExited("worker.1#2", e.Exit(1, tail=tail)))
    core.exited("worker.1#1", 1)

    why = "newest source does not start: app.py:12 NameError: name 'x' is not defined"
    assert core.holds("worker") == [why, "waits for its turn in the update"]
    assert core.tell(e.ScaleRequested("worker", 3)) == ["start worker.3#1"]


def test_a_compiled_slot_whose_old_replica_dies_is_filled_with_the_last_good_one() -> None:
    core = serving(2, compiled=True)
    good = core.state.of("worker").good
    save(core, compiled=True)
    core.spawned("worker.1#2")
    core.exited("worker.1#2", 1)

    assert core.exited("worker.2#1", 1) == []
    assert core.wait(0.5) == ["start worker.2#2", "start worker.1#3"]
    assert core.replica("worker.2#2").revision == good
    assert core.replica("worker.1#3").revision == core.state.of("worker").desired != good


def test_failures_of_a_stand_in_and_of_the_newest_are_counted_apart() -> None:
    core = serving(1, compiled=True)
    save(core, compiled=True)
    for number in (2, 3, 4):
        core.spawned(f"worker.1#{number}")
        core.exited(f"worker.1#{number}", 1)
        core.wait(core.plan.wake_at - core.now if core.plan.wake_at else 0)
    core.spawned("worker.1#5")
    core.exited("worker.1#5", 1)
    assert core.state.of("worker").slot(1).newest.failures == 4

    core.exited("worker.1#1", 1)
    assert core.wait(0.5) == ["start worker.1#6"]
    assert core.state.of("worker").slot(1).newest.failures == 4
    assert core.holds("worker") == ["newest source does not start: exited with code 1"]


def test_a_compiled_one_that_recreates_stands_in_only_after_all_tries_and_then_stays() -> None:
    core = serving(1, compiled=True, update=Update.RECREATE)
    good = core.state.of("worker").good
    assert save(core, compiled=True) == ["stop worker.1#1: replaced by a newer revision"]
    assert core.exited("worker.1#1") == ["start worker.1#2"]
    for number in range(2, 7):
        core.spawned(f"worker.1#{number}")
        core.exited(f"worker.1#{number}", 1)
        core.wait(60)

    assert core.replica("worker.1#7").revision == good
    assert core.start("worker.1#7") == []
    assert core.wait(3600) == []
    assert core.running("worker") == ["worker.1#7"]


def test_recreate_never_has_two_on_a_slot() -> None:
    core = History()
    core.up(database())
    core.prepared("db", data_id="data-1")
    core.start("db.1#1")
    core.tell(e.RestartRequested("db"))

    assert core.prepared("db") == ["stop db.1#1: replaced by a newer revision"]
    assert core.holds("db") == ["waits for db.1#1 to end"]
    assert core.exited("db.1#1") == ["start db.1#2"]


def test_a_fixed_port_never_has_two_on_a_slot() -> None:
    core = serving(endpoints=(Endpoint("main", 9000, fixed=True),))

    assert save(core) == ["stop worker.1#1: replaced by a newer revision"]
    assert core.exited("worker.1#1") == ["start worker.1#2"]


def test_b14_recreate_keeps_the_old_one_until_the_newer_could_start() -> None:
    core = History()
    core.up(worker("dep"), worker(update=Update.RECREATE))
    core.prepared("dep")
    core.prepared("worker")
    core.start("worker.1#1")
    core.up(worker("dep"), worker(update=Update.RECREATE, depends_on=needs("dep")))

    assert core.prepared("worker") == []
    assert core.running("worker") == ["worker.1#1"]
    assert core.start("dep.1#1") == ["stop worker.1#1: replaced by a newer revision"]


def test_a_successor_overtaken_by_a_newer_revision_makes_way_and_there_are_never_three() -> None:
    core = serving()
    save(core, "source-2")
    core.spawned("worker.1#2")

    assert save(core, "source-3") == [
        "stop worker.1#2: worker.1#1 stands in until the newest revision is ready",
        "start worker.1#3",
    ]
    current = [r.id for r in core.state.replicas_of("worker") if r.is_current]
    assert current == ["worker.1#1", "worker.1#3"]


def test_back_to_the_old_source_ends_the_successor() -> None:
    core = serving()
    save(core, "source-2")
    core.spawned("worker.1#2")

    assert save(core, "source-1") == ["stop worker.1#2: replaced by worker.1#1"]


def test_what_is_unchanged_keeps_its_replicas_when_the_file_is_applied_again() -> None:
    core = serving(2)

    assert core.up(worker(replicas=2)) == []
    assert core.up(worker(replicas=2, start_timeout_seconds=5.0, where="stack.yaml:9")) == []
    assert core.running("worker") == ["worker.1#1", "worker.2#1"]


def balanced() -> History:
    core = History()
    core.up_behind_nginx()
    core.routed()
    return core


def restart(core: History) -> list[str]:
    core.tell(e.RestartRequested("web"))
    return core.prepared("web")


def test_it_drains_only_after_the_table_in_force_is_without_it() -> None:
    core = balanced()
    restart(core)

    assert core.start("web.1#2") == ["routes web=web.1#2"]
    assert core.holds("web") == ["web.1#1 leaves the routing table first"]
    assert core.routed() == ["drain web.1#1"]
    assert core.wait(5) == []
    assert core.tell(e.ReplicaDrained("web.1#1")) == ["stop web.1#1: replaced by web.1#2"]


def test_a_table_that_cannot_be_set_keeps_the_old_replica() -> None:
    core = balanced()
    restart(core)
    core.start("web.1#2")

    assert core.tell(e.RoutesFailed("no answer")) == []
    assert core.wait(0.2) == ["routes web=web.1#2"]
    assert core.routed() == ["drain web.1#1"]


def test_when_nginx_is_gone_nobody_can_be_drained() -> None:
    core = balanced()
    restart(core)
    core.start("web.1#2")
    core.routed()

    assert "stop web.1#1: replaced by web.1#2" in core.exited("gateway.1#1", 1)


def test_of_four_ports_the_oldest_draining_replica_makes_room() -> None:
    core = balanced()
    for number in (2, 3, 4):
        restart(core)
        core.start(f"web.1#{number}")
        core.routed()
    assert [r.draining for r in core.state.replicas_of("web")] == [True, True, True, False]

    assert restart(core) == ["stop web.1#1: its port is needed"]
    assert "all 4 ports of the slot are in use by earlier replicas" in core.holds("web")
    assert core.replica("web.1#2").phase is Phase.RUNNING
    assert core.exited("web.1#1") == ["start web.1#5"]


def test_a_third_revision_waits_until_the_first_has_left_the_table() -> None:
    core = balanced()
    restart(core)
    assert core.start("web.1#2") == ["routes web=web.1#2"]

    assert restart(core) == []
    assert "waits for its turn in the update" in core.holds("web")
    assert core.routed() == ["drain web.1#1", "start web.1#3"]


def test_recreate_leaves_the_table_and_drains_too() -> None:
    core = History()
    core.up(nginx(), web(update=Update.RECREATE))
    core.prepared("gateway")
    core.prepared("web")
    core.start("gateway.1#1")
    core.loaded()
    core.routed()
    core.start("web.1#1")
    core.routed()

    assert restart(core) == ["routes"]
    assert core.routed()[0] == "drain web.1#1"
    assert core.tell(e.ReplicaDrained("web.1#1")) == ["stop web.1#1: replaced by a newer revision"]
    assert core.exited("web.1#1") == ["start web.1#2"]
