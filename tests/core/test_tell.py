"""What is told of events: the same failure once, however often something is tried in vain."""

from dataclasses import replace

from devstack.core import events as e
from devstack.core.reduce import reduce
from devstack.core.tell import tell
from tests.support.history import History, nginx, web, worker

BUSY = "cannot listen on 127.0.0.1:8080: port 8080 is in use"


class Told(History):
    """A history that keeps what people are told of it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def record(self, event: e.Event) -> None:
        stamped = replace(event, at=self.now)
        line = tell(self.state, stamped, reduce(self.state, stamped))
        if line is not None:
            self.lines.append(line.text)
        super().record(event)


def fail_to_start(core: Told, first: int, *messages: str) -> None:
    """A worker's replicas from the first on, each when its slot may be filled."""
    for number, message in enumerate(messages, start=first):
        core.wait(60)
        core.tell(e.ReplicaStartFailed(f"worker.1#{number}", message, permanent=False))


def test_what_keeps_a_replica_from_starting_is_told_when_it_is_another_reason() -> None:
    core = Told()
    core.up(worker())
    core.prepared("worker")

    fail_to_start(core, 1, BUSY, BUSY, BUSY, "no memory", BUSY)

    assert core.lines.count(BUSY) == 2
    assert core.lines.count("no memory") == 1


def test_what_keeps_a_replica_from_starting_is_told_again_to_who_asks_again() -> None:
    core = Told()
    core.up(worker())
    core.prepared("worker")
    fail_to_start(core, 1, BUSY, BUSY)

    core.up(worker())
    fail_to_start(core, 3, BUSY, BUSY)

    assert core.lines.count(BUSY) == 2


def test_what_keeps_a_replica_from_starting_is_told_again_after_one_that_ran() -> None:
    core = Told()
    core.up(worker())
    core.prepared("worker")
    fail_to_start(core, 1, BUSY)
    core.wait(60)
    core.start("worker.1#2")
    core.exited("worker.1#2", 1)

    fail_to_start(core, 3, BUSY)

    assert core.lines.count(BUSY) == 2


def test_a_configuration_that_nginx_refuses_again_and_again_is_told_once() -> None:
    core = Told()
    core.up(web(), nginx())
    core.prepared("gateway")
    core.spawned("gateway.1#1")
    core.tell(e.GatewayLoaded(e.GatewayShape()))
    core.ready("gateway.1#1")

    for message in (BUSY, BUSY, "no memory", BUSY):
        loading = core.state.gateway.loading
        assert loading is not None
        core.tell(e.GatewayLoadFailed(loading, message))
        core.wait(5)

    assert [line for line in core.lines if line in (BUSY, "no memory")] == [BUSY, "no memory", BUSY]
