"""The controller with both kinds of fake runtime: up, scale, crash, restart, down; nothing is left."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

from devstack.core import events as e
from devstack.core.events import Artifact, GatewayShape
from devstack.core.model import GATEWAY, FakeProgram, Kind, Restart, RuntimeName, Service
from devstack.core.outcome import is_current
from devstack.core.reduce import reduce
from devstack.core.routes import RoutingTable
from devstack.core.state import State
from devstack.core.view import Word, service_word
from devstack.engine.controller import Controller
from devstack.engine.operations import GatewayFailed, Operations
from devstack.runtimes.base import Started, StartOrder
from devstack.runtimes.fake import FakeProber, FakeReplicas, FakeWorkloads
from tests.support.history import cloud, job, needs, stack, worker

LIMIT_SECONDS = 30


class WithPids(FakeReplicas):
    """Fake replicas that pretend to be processes."""

    digests: Iterator[str] = itertools.repeat("")
    """Of their source, at each look."""
    prepare_hangs = False
    """The next one, and no other."""

    def __init__(self) -> None:
        super().__init__()
        self.hanging = asyncio.Event()
        self.cut_short: list[str] = []
        """Revisions whose preparation was cancelled."""

    async def prepare(self, service: Service, revision: str) -> Artifact:
        if self.prepare_hangs:
            self.prepare_hangs = False
            self.hanging.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)  # to kill a step takes a moment
                self.cut_short.append(revision)
        return await super().prepare(service, revision)

    async def source_digest(self, service: Service) -> str:
        del service
        return next(self.digests)

    async def start(self, order: StartOrder) -> Started:
        return replace(await super().start(order), pid=4242)


class Bench:
    """A controller on fakes."""

    def __init__(self) -> None:
        self.replicas = WithPids()
        self.cluster = FakeWorkloads()
        self.prober = FakeProber(self.replicas)
        operations = Operations(
            replicas={RuntimeName.FAKE: self.replicas},
            workloads={RuntimeName.FAKE_WORKLOAD: self.cluster},
            probers={RuntimeName.FAKE: self.prober},
            jitter=lambda: 0.0,
        )
        self.operations = operations
        self.controller = Controller(operations)

    def apply(self, *services: Service) -> None:
        self.controller.post(e.StackApplied(stack=stack(*services)))

    async def until(self, is_so: Callable[[State], bool]) -> State:
        return await self.controller.until(is_so)

    async def ready(self, name: str, count: int) -> State:
        return await self.until(
            lambda s: s.ready_count(name) == count and len(s.replicas_of(name)) == count
        )


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    """A controller that is brought down at the end; afterwards nothing is left of anything."""
    bench = Bench()
    async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as tasks:
        work = tasks.create_task(bench.controller.run())
        yield bench
        bench.controller.post(e.DownRequested())
        await work
    assert bench.controller.state.is_empty
    assert bench.replicas.running == {}
    assert bench.cluster.applied == {}
    assert bench.prober._watched == {}
    assert len(asyncio.all_tasks()) == 1

    replayed = State()
    for entry in bench.controller.journal.after(0)[1]:
        replayed = reduce(replayed, entry.event)
    assert replayed == bench.controller.state


def test_a_stack_of_replicas_a_job_and_a_workload_comes_up_in_order() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.apply(
                worker("db", program=FakeProgram("ready_after=0.02")),
                job(program=FakeProgram("exit_after=0.02"), depends_on=needs("db")),
                worker(replicas=2, depends_on=needs("db")),
                cloud(replicas=2, depends_on=needs("worker")),
            )
            await bench.ready("cloud", 2)
            await bench.until(lambda s: s.is_completed("migrate"))

            assert sorted(bench.replicas.running) == ["db.1#1", "worker.1#1", "worker.2#1"]

    asyncio.run(run())


def test_both_kinds_scale() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.apply(worker(), cloud())
            for count in (4, 2, 0, 1):
                for name in ("worker", "cloud"):
                    bench.controller.post(e.ScaleRequested(name, count))
                await bench.ready("worker", count)
                await bench.ready("cloud", count)

    asyncio.run(run())


def test_a_replica_that_crashes_is_filled_and_a_cluster_fills_its_own() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.apply(worker(restart=Restart.ALWAYS), cloud(replicas=2))
            await bench.ready("worker", 1)
            await bench.ready("cloud", 2)
            told = dict(bench.cluster.applied)
            bench.replicas.end("worker.1#1", e.Exit(None, 9))
            pods = {r.id for r in bench.controller.state.replicas_of("cloud")}
            bench.cluster.kill("cloud")

            await bench.until(lambda s: "worker.1#2" in s.replicas and s.is_ready("worker"))
            await bench.until(lambda s: {r.id for r in s.replicas_of("cloud")} != pods)
            assert bench.cluster.applied == told

    asyncio.run(run())


def test_a_crash_loop_is_one_and_goes_on_being_tried() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.apply(worker(program=FakeProgram("exit_after=0 code=3")))

            state = await bench.until(lambda s: s.of("worker").slot(1).newest.failures == 2)
            assert service_word(state, "worker", bench.controller.journal.last) is not Word.READY
            assert str(state.of("worker").slot(1).last_exit) == "exited with code 3"

    asyncio.run(run())


def test_restart_replaces_every_replica_while_others_serve() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.apply(worker(replicas=3), cloud())
            await bench.ready("worker", 3)
            before = bench.controller.journal.last
            bench.controller.post(e.RestartRequested("worker"))
            state = await bench.until(
                lambda s: (
                    sorted(s.replicas) == ["worker.1#2", "worker.2#2", "worker.3#2"]
                    or (
                        sorted(r.id for r in s.replicas_of("worker"))
                        == ["worker.1#2", "worker.2#2", "worker.3#2"]
                        and s.ready_count("worker") == 3
                    )
                )
            )

            assert state.of("worker").good == state.wanted_revision("worker")
            serving = State()
            for entry in bench.controller.journal.after(0)[1]:
                serving = reduce(serving, entry.event)
                if entry.number > before:
                    assert serving.ready_count("worker") >= 3, entry.event

    asyncio.run(run())


def test_a_removed_service_goes_and_the_others_keep_their_replicas() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.apply(worker(), worker("other"), cloud())
            await bench.ready("worker", 1)
            await bench.ready("other", 1)
            await bench.ready("cloud", 1)
            bench.apply(worker())

            await bench.until(lambda s: not s.removed and sorted(s.replicas) == ["worker.1#1"])

    asyncio.run(run())


def test_what_cannot_be_prepared_or_started_fails_with_its_sentence() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.apply(
                worker("broken", program=FakeProgram("prepare=fail")),
                worker("missing", program=FakeProgram("start=fail")),
                cloud(program=FakeProgram("start=fail")),
            )
            state = await bench.until(
                lambda s: (
                    s.of("broken").prepare_error is not None
                    and bool(s.of("missing").slot(1).newest.blocked)
                    and s.of("cloud").workload.blocked
                )
            )

            now = bench.controller.plan.wake_at or 0.0
            for name in ("broken", "missing", "cloud"):
                assert service_word(state, name, now) is Word.FAILED
            bench.apply(worker("broken"))
            await bench.ready("broken", 1)

    asyncio.run(run())


def test_down_in_the_middle_of_everything_leaves_nothing() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.apply(
                worker("slow", replicas=3, program=FakeProgram("ready_after=60")),
                worker(replicas=3, depends_on=needs("slow")),
                cloud(replicas=2),
            )
            await bench.until(lambda s: len(s.replicas_of("slow")) == 3)

    asyncio.run(run())


async def hang(bench: Bench) -> str:
    """Bring up a worker whose first preparation hangs."""
    bench.replicas.prepare_hangs = True
    bench.apply(worker())
    await bench.replicas.hanging.wait()
    revision = bench.controller.state.of("worker").preparing
    assert revision is not None
    return revision


def test_a_preparation_that_hangs_ends_with_stop_and_is_begun_anew_by_start() -> None:
    async def run() -> None:
        async with running() as bench:
            revision = await hang(bench)
            bench.controller.post(e.StopRequested("worker"))
            await bench.until(lambda s: s.of("worker").preparing is None)

            assert bench.replicas.cut_short == [revision]
            bench.controller.post(e.StartRequested("worker"))
            state = await bench.ready("worker", 1)
            assert state.of("worker").desired == revision

    asyncio.run(run())


def test_a_preparation_that_hangs_makes_way_for_a_newer_one() -> None:
    async def run() -> None:
        async with running() as bench:
            revision = await hang(bench)
            for _ in range(3):
                bench.controller.post(e.RestartRequested("worker"))
            state = await bench.ready("worker", 1)

            assert bench.replicas.cut_short == [revision]
            assert state.of("worker").desired == state.wanted_revision("worker") != revision

    asyncio.run(run())


def test_a_preparation_that_hangs_ends_with_the_stack() -> None:
    async def run() -> None:
        async with running() as bench:
            revision = await hang(bench)
        assert bench.replicas.cut_short == [revision]

    asyncio.run(run())


def test_of_restarts_at_any_moment_of_a_preparation_the_last_one_holds() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.apply(worker())
            for number in range(64):
                bench.controller.post(e.RestartRequested("worker"))
                for _ in range(number % 8):
                    await asyncio.sleep(0)
            await bench.until(lambda s: s.of("worker").restart_count == 64)
            await bench.until(lambda s: is_current(s, "worker"))

    asyncio.run(run())


class NeverConfirmed:
    """A gateway driver whose NGINX ends while it is waited for."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def confirm(self, replica: str, pid: int) -> tuple[GatewayShape, tuple[str, ...]]:
        del pid
        await self._bench.until(lambda s: s.of(GATEWAY).slot(1).newest.failures == 1)
        if replica.endswith("#1"):
            raise GatewayFailed("it ended")
        return GatewayShape(), ()

    async def set_routes(self, table: RoutingTable) -> None:
        del table

    async def load(self, shape: GatewayShape) -> tuple[str, ...]:
        del shape
        return ()

    async def wait_drained(self, addresses: tuple[str, ...], grace_seconds: float) -> None:
        del addresses, grace_seconds


def test_a_gateway_that_ends_while_it_is_waited_for_is_asked_no_more() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.operations.gateway = NeverConfirmed(bench)
            program = FakeProgram("exit_after=0.01 code=1")
            bench.apply(worker(GATEWAY, kind=Kind.GATEWAY, program=program))
            await bench.until(lambda s: "gateway.1#2" in s.replicas)

            assert "gateway.1#1" not in bench.prober._watched

    asyncio.run(run())
