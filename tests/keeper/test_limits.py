"""The keeper when the system gives it no more of something."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.keeper.client import KeeperClient
from devstack.keeper.errors import KeeperUnreachable, SpawnError
from devstack.keeper.places import Places
from devstack.keeper.requests import View
from tests.support.keepers import exit_of, run_to_end, running_keeper, spec
from tests.support.processes import eventually_async

MEASURED_SECONDS = 0.5


@contextlib.contextmanager
def few_descriptors_left(pid: int, count: int) -> Iterator[None]:
    """For a process that opens nothing meanwhile on its own."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    lowest = next(number for number in range(1 << 20) if number not in taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest + count, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def processor_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def test_a_client_that_cannot_be_taken_yet_waits_and_costs_nothing(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            pid, log = keeper.greeting.pid, Path(places.keeper_log)
            with few_descriptors_left(pid, 0):
                waiting = asyncio.ensure_future(
                    KeeperClient.connect(places.keeper_socket, "observer")
                )
                await eventually_async(lambda: "cannot take a client" in log.read_text())
                before = processor_seconds(pid)
                await asyncio.sleep(MEASURED_SECONDS)
                used = processor_seconds(pid) - before
                assert not waiting.done()
                assert (await keeper.list()).has_controller
            observer = await waiting
            assert (await observer.list()).has_controller
            observer.close()

        assert used < MEASURED_SECONDS / 10

    asyncio.run(scenario())
    assert Path(places.keeper_log).read_text().count("cannot take a client") == 1


def test_a_secret_for_which_there_is_no_room_is_not_cut_short(
    places: Places, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(17 << 20))

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            if not keeper.capabilities.secrets:
                pytest.skip(f"this system refuses: {keeper.capabilities.secrets_how}")
            asked = spec("a", "true", view=View(secrets={"large": str(large)}))
            with pytest.raises(SpawnError, match="No space left on device"):
                await keeper.spawn(asked)

    asyncio.run(scenario())


def test_a_keeper_that_takes_nobody_in_is_not_waited_for(places: Places) -> None:
    """One that was stopped while others came: a connection that waits would hold up all there is."""
    raised: list[BaseException] = []

    def connect() -> None:
        try:
            asyncio.run(KeeperClient.connect(places.keeper_socket))
        except KeeperUnreachable as exc:
            raised.append(exc)

    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as earlier:
        listening.bind(places.keeper_socket)
        listening.listen(0)
        earlier.connect(places.keeper_socket)
        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        thread.join(10)

    assert "no keeper answers at" in str(raised)


def test_what_runs_can_be_ended_though_clients_have_taken_every_descriptor(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            pid, log = keeper.greeting.pid, Path(places.keeper_log)
            await keeper.spawn(spec("a", "sh", "-c", "sleep 1000 & wait"))
            with few_descriptors_left(pid, 40), contextlib.ExitStack() as clients:
                for _ in range(50):
                    client = clients.enter_context(socket.socket(socket.AF_UNIX))
                    client.connect(places.keeper_socket)
                await eventually_async(lambda: "cannot take a client" in log.read_text())
                with pytest.raises(SpawnError, match="too many open files"):
                    await keeper.spawn(spec("b", "true"))
                async with asyncio.timeout(10):
                    while len(await keeper.descendants("a")) < 2:
                        pass
                await keeper.kill("a")
                assert (await exit_of(keeper, "a")).signal == signal.SIGKILL
            assert (await run_to_end(keeper, spec("c", "true"))).code == 0

    asyncio.run(scenario())
