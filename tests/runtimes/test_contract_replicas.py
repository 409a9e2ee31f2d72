"""What every runtime that owns its replicas promises; each kind joins with a `Bench` of its own.

A bench makes services out of four behaviours and owns what its runtime needs. A runtime joins by adding
a bench to `BENCHES`, and is asked the same.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from devstack.core.model import (
    ArgvCommand,
    Endpoint,
    FakeProgram,
    Kind,
    RuntimeName,
    Service,
    SourceProgram,
    Stop,
)
from devstack.core.template import literal
from devstack.keeper.places import Places
from devstack.runtimes.base import (
    PrepareFailed,
    Recovery,
    ReplicaEnd,
    ReplicaRuntime,
    RuntimeUnavailable,
    StartFailed,
    StartOrder,
)
from devstack.runtimes.fake import FakeReplicas
from devstack.runtimes.process.runtime import ProcessRuntime
from tests.runtimes.kit import nothing_to_recover, serving

LIMIT_SECONDS = 30
STOP = Stop(grace_seconds=5)


class Bench(Protocol):
    """A runtime under test, and services that behave as a test needs them."""

    @property
    def runtime(self) -> ReplicaRuntime: ...
    def living(self) -> Service: ...
    def ending(self, code: int) -> Service: ...
    def unstartable(self) -> Service: ...
    def unpreparable(self) -> Service: ...

    async def succeed(self) -> bool:
        """Let the next controller have the runtime; whether replicas outlive the one before."""
        ...


ENDPOINTS = (Endpoint("main", 8080), Endpoint("admin", 8081))


@dataclass
class FakeBench:
    runtime: FakeReplicas

    def service(self, script: str) -> Service:
        return Service(
            "app",
            Kind.SERVICE,
            FakeProgram(script),
            RuntimeName.FAKE,
            endpoints=ENDPOINTS,
        )

    def living(self) -> Service:
        return self.service("")

    def ending(self, code: int) -> Service:
        return self.service(f"exit_after=0.01 code={code}")

    def unstartable(self) -> Service:
        return self.service("start=fail")

    def unpreparable(self) -> Service:
        return self.service("prepare=fail")

    async def succeed(self) -> bool:
        self.runtime = FakeReplicas()  # its replicas are timers of the process that is gone
        return False


@asynccontextmanager
async def fake(folder: Path, places: Places) -> AsyncIterator[Bench]:
    del folder, places
    bench = FakeBench(FakeReplicas())
    yield bench
    assert not bench.runtime.running


@dataclass
class ProcessBench:
    """Programs on a real keeper, which goes on when the controller is succeeded."""

    folder: Path
    places: Places
    controllers: AsyncExitStack
    runtime: ProcessRuntime = field(init=False)

    def service(self, *argv: str) -> Service:
        command = ArgvCommand(tuple(map(literal, argv))) if argv else None
        program = SourceProgram(None, command)
        return Service("app", Kind.SERVICE, program, RuntimeName.PROCESS, endpoints=ENDPOINTS)

    def living(self) -> Service:
        return self.service("sleep", "1000")

    def ending(self, code: int) -> Service:
        return self.service("sh", "-c", f"exit {code}")

    def unstartable(self) -> Service:
        return self.service("./no-such-program")

    def unpreparable(self) -> Service:
        return self.service()  # it does not say how it starts

    async def open(self, *, leaves: bool) -> None:
        """Be a controller until the next one."""
        served = serving(self.folder, self.places, self.living(), leaves=leaves)
        self.runtime = (await self.controllers.enter_async_context(served)).runtime

    async def succeed(self) -> bool:
        await self.controllers.aclose()
        await self.open(leaves=False)
        return True


@asynccontextmanager
async def process(folder: Path, places: Places) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as controllers:
        bench = ProcessBench(folder, places, controllers)
        await bench.open(leaves=True)
        try:
            yield bench
            assert await bench.runtime.stats() == {}
        finally:
            await bench.succeed()  # the last one shuts the keeper down, and nothing may be left


MakeBench = Callable[[Path, Places], AbstractAsyncContextManager[Bench]]
BENCHES: dict[str, MakeBench] = {"fake": fake, "process": process}

Contract = Callable[[Bench], Awaitable[None]]


@pytest.fixture(params=sorted(BENCHES))
def check(
    request: pytest.FixtureRequest, tmp_path: Path, places: Places
) -> Callable[[Contract], None]:
    """Run a contract on a bench of each kind, which is left clean."""
    made: MakeBench = BENCHES[request.param]

    async def run(contract: Contract) -> None:
        async with asyncio.timeout(LIMIT_SECONDS), made(tmp_path, places) as bench:
            await contract(bench)

    return lambda contract: asyncio.run(run(contract))


async def order(bench: Bench, service: Service, number: int = 1) -> StartOrder:
    artifact = await bench.runtime.prepare(service, "revision-1")
    return StartOrder(f"app.1#{number}", service, 1, "revision-1", artifact)


async def next_end(bench: Bench) -> ReplicaEnd:
    return await anext(bench.runtime.ends().__aiter__())


Check = Callable[[Contract], None]


def test_preparing_the_same_revision_twice_makes_the_same_artifact(check: Check) -> None:
    async def contract(bench: Bench) -> None:
        service = bench.living()
        first = await bench.runtime.prepare(service, "revision-1")

        assert await bench.runtime.prepare(service, "revision-1") == first

    check(contract)


def test_what_cannot_be_prepared_says_so_in_a_sentence(check: Check) -> None:
    async def contract(bench: Bench) -> None:
        with pytest.raises(PrepareFailed, match=r"^cannot (prepare|start) app: ."):
            await bench.runtime.prepare(bench.unpreparable(), "revision-1")

    check(contract)


def test_a_source_that_nobody_touches_has_one_digest(check: Check) -> None:
    async def contract(bench: Bench) -> None:
        service = bench.living()

        digest = await bench.runtime.source_digest(service)
        assert await bench.runtime.source_digest(service) == digest

    check(contract)


def test_a_started_replica_has_an_address_for_each_endpoint_and_lives_until_it_is_stopped(
    check: Check,
) -> None:
    async def contract(bench: Bench) -> None:
        started = await bench.runtime.start(await order(bench, bench.living()))
        assert [name for name, _ in started.addresses] == ["main", "admin"]
        assert started.started_at > 1_500_000_000
        assert list(await bench.runtime.stats()) == ["app.1#1"]

        await bench.runtime.stop("app.1#1", STOP)
        end = await next_end(bench)
        assert (end.replica, end.exit.code, end.exit.signal) == ("app.1#1", None, 15)
        assert await bench.runtime.stats() == {}

    check(contract)


@pytest.mark.parametrize("code", [0, 3])
def test_the_end_of_a_replica_is_told_with_its_code(check: Check, code: int) -> None:
    async def contract(bench: Bench) -> None:
        await bench.runtime.start(await order(bench, bench.ending(code)))

        end = await next_end(bench)
        assert (end.replica, end.exit.code, end.is_loss) == ("app.1#1", code, False)

    check(contract)


def test_what_cannot_be_started_says_so_and_leaves_nothing(check: Check) -> None:
    async def contract(bench: Bench) -> None:
        with pytest.raises(StartFailed, match=r"^cannot start app: .") as failed:
            await bench.runtime.start(await order(bench, bench.unstartable()))

        assert failed.value.permanent
        assert await bench.runtime.stats() == {}

    check(contract)


def test_stopping_what_is_gone_is_no_error_and_tells_no_second_end(check: Check) -> None:
    async def contract(bench: Bench) -> None:
        await bench.runtime.start(await order(bench, bench.ending(0)))
        await next_end(bench)
        await bench.runtime.stop("app.1#1", STOP)
        await bench.runtime.start(await order(bench, bench.ending(7), number=2))

        assert (await next_end(bench)).replica == "app.1#2"

    check(contract)


def test_two_replicas_of_a_slot_live_side_by_side(check: Check) -> None:
    async def contract(bench: Bench) -> None:
        for number in (1, 2):
            await bench.runtime.start(await order(bench, bench.living(), number))
        assert sorted(await bench.runtime.stats()) == ["app.1#1", "app.1#2"]

        await bench.runtime.stop("app.1#1", STOP)
        assert (await next_end(bench)).replica == "app.1#1"
        assert list(await bench.runtime.stats()) == ["app.1#2"]
        await bench.runtime.stop("app.1#2", STOP)
        await next_end(bench)

    check(contract)


def test_a_command_beside_a_replica_is_something_the_client_can_run(check: Check) -> None:
    async def contract(bench: Bench) -> None:
        await bench.runtime.start(await order(bench, bench.living()))

        plan = await bench.runtime.exec("app.1#1", ("env", "-0"))
        assert plan.argv[-2:] == ("env", "-0")
        ran = await asyncio.create_subprocess_exec(
            *plan.argv, env=plan.environment, cwd=plan.cwd, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await ran.communicate()
        assert ran.returncode == 0
        assert said
        await bench.runtime.stop("app.1#1", STOP)
        await next_end(bench)

    check(contract)


def test_a_command_beside_what_is_gone_is_refused(check: Check) -> None:
    async def contract(bench: Bench) -> None:
        await bench.runtime.start(await order(bench, bench.ending(0)))
        await next_end(bench)

        with pytest.raises(RuntimeUnavailable, match=r"^app\.1#1 does not run$"):
            await bench.runtime.exec("app.1#1", ("true",))

    check(contract)


def test_a_runtime_that_nobody_used_has_nothing_to_recover(check: Check) -> None:
    async def contract(bench: Bench) -> None:
        assert await bench.runtime.recover() == Recovery()

    check(contract)


def test_the_next_controller_recovers_what_runs_as_it_was_started_and_looks_after_it(
    check: Check,
) -> None:
    async def contract(bench: Bench) -> None:
        asked = await order(bench, bench.living())
        started = await bench.runtime.start(asked)

        outlives = await bench.succeed()
        recovery = await bench.runtime.recover()

        assert recovery.ended == ()
        assert len(recovery.running) == outlives
        for found in recovery.running:
            assert (found.replica, found.service, found.slot) == ("app.1#1", "app", 1)
            assert (found.revision, found.pid) == (asked.revision, started.pid)
            assert found.addresses == started.addresses
            assert abs(found.started_at - started.started_at) < 1
            await bench.runtime.stop(found.replica, STOP)
            end = await next_end(bench)
            assert (end.replica, end.exit.signal, end.is_loss) == ("app.1#1", 15, False)
        # until it is recorded a next controller would have to hear it
        assert len((await bench.runtime.recover()).ended) == outlives
        bench.runtime.acknowledge()
        await nothing_to_recover(bench.runtime)

    check(contract)
