"""What every runtime that only tells a cluster promises; `fake` is the first of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from devstack.core.events import ObservedReplica
from devstack.core.model import FakeProgram, Kind, RuntimeName, Service
from devstack.runtimes.base import (
    PrepareFailed,
    RuntimeUnavailable,
    StartFailed,
    WorkloadRuntime,
)
from devstack.runtimes.fake import FakeWorkloads

LIMIT_SECONDS = 30

RUNTIMES: dict[str, Callable[[], WorkloadRuntime]] = {"fake": FakeWorkloads}

Contract = Callable[[WorkloadRuntime], Awaitable[None]]
Check = Callable[[Contract], None]


@pytest.fixture(params=sorted(RUNTIMES))
def check(request: pytest.FixtureRequest) -> Check:
    async def run(contract: Contract) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            await contract(RUNTIMES[request.param]())

    return lambda contract: asyncio.run(run(contract))


def service(script: str = "") -> Service:
    return Service("app", Kind.SERVICE, FakeProgram(script), RuntimeName.FAKE_WORKLOAD)


Seen = AsyncIterator[tuple[str, tuple[ObservedReplica, ...]]]


async def replicas_when(seen: Seen, count: int) -> tuple[ObservedReplica, ...]:
    async for name, replicas in seen:
        assert name == "app"
        if len(replicas) == count and all(r.ready for r in replicas):
            return replicas
    raise AssertionError("the runtime stopped observing")


def test_as_many_replicas_as_were_applied_are_observed_with_names_of_their_own(
    check: Check,
) -> None:
    async def contract(runtime: WorkloadRuntime) -> None:
        seen = runtime.observe()
        await runtime.apply(service(), "revision-1", 3)
        replicas = await replicas_when(seen, 3)
        assert len({r.id for r in replicas}) == 3

        await runtime.apply(service(), "revision-1", 1)
        assert len(await replicas_when(seen, 1)) == 1
        await runtime.remove("app")

    check(contract)


def test_another_revision_has_other_replicas(check: Check) -> None:
    async def contract(runtime: WorkloadRuntime) -> None:
        seen = runtime.observe()
        await runtime.apply(service(), "revision-1", 2)
        before = {r.id for r in await replicas_when(seen, 2)}
        await runtime.apply(service(), "revision-2", 2)

        assert not before & {r.id for r in await replicas_when(seen, 2)}
        await runtime.remove("app")

    check(contract)


def test_refusals_are_told_in_a_sentence(check: Check) -> None:
    async def contract(runtime: WorkloadRuntime) -> None:
        with pytest.raises(PrepareFailed, match=r"^cannot prepare app: ."):
            await runtime.prepare(service("prepare=fail"), "revision-1")
        with pytest.raises(StartFailed, match=r"^cannot start app: .") as refused:
            await runtime.apply(service("start=fail"), "revision-1", 1)
        assert refused.value.permanent

    check(contract)


def test_removing_what_is_gone_is_no_error(check: Check) -> None:
    async def contract(runtime: WorkloadRuntime) -> None:
        await runtime.apply(service(), "revision-1", 1)
        await runtime.remove("app")
        await runtime.remove("app")

    check(contract)


def test_a_command_in_a_replica_is_something_the_client_can_run(check: Check) -> None:
    async def contract(runtime: WorkloadRuntime) -> None:
        seen = runtime.observe()
        await runtime.apply(service(), "revision-1", 1)
        (replica,) = await replicas_when(seen, 1)

        plan = await runtime.exec(replica.id, ("env", "-0"))
        assert plan.argv[-2:] == ("env", "-0")
        ran = await asyncio.create_subprocess_exec(
            *plan.argv, env=plan.environment, cwd=plan.cwd, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await ran.communicate()
        assert ran.returncode == 0
        assert said

        await runtime.remove("app")
        with pytest.raises(RuntimeUnavailable, match=r" does not run$"):
            await runtime.exec(replica.id, ("true",))

    check(contract)
