"""Pipes that come with a request: whose they are, and what is none."""

import asyncio
import os
import signal

import pytest

from devstack.keeper.errors import KeeperRefused
from devstack.keeper.places import Places
from tests.support.keepers import exit_of, running_keeper, spec


def test_pipes_go_to_the_request_they_were_sent_with(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            process = await keeper.spawn(spec("a", "sh", "-c", "sleep 1000 & sleep 1000 & wait"))
            async with asyncio.timeout(10):
                while len(pids := await keeper.descendants("a")) < 3:
                    pass
            one, other = pids - {process.pid}
            reader, writer = os.pipe()
            os.write(writer, b"from the second")
            os.kill(keeper.greeting.pid, signal.SIGSTOP)  # so that it reads both at once
            first = asyncio.ensure_future(keeper.adopt(one, "b", "b", None))
            second = asyncio.ensure_future(keeper.adopt(other, "c", "c", None, [reader]))
            await asyncio.sleep(0)
            os.kill(keeper.greeting.pid, signal.SIGCONT)
            await asyncio.gather(first, second)
            os.close(reader)
            os.close(writer)
            outputs = []
            for key in ("b", "c"):
                await keeper.kill(key)
                outputs.append((await exit_of(keeper, key)).output)

        assert outputs == [b"", b"from the second"]

    asyncio.run(scenario())


def test_what_cannot_be_waited_for_is_refused_and_the_keeper_lives_on(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            process = await keeper.spawn(spec("a", "sh", "-c", "sleep 1000 & wait"))
            async with asyncio.timeout(10):
                while len(pids := await keeper.descendants("a")) < 2:
                    pass
            (pid,) = pids - {process.pid}
            nothing = os.open(os.devnull, os.O_RDONLY)
            with pytest.raises(KeeperRefused, match="no pipe"):
                await keeper.adopt(pid, "b", "b", None, [nothing])
            os.close(nothing)
            assert (await keeper.list()).processes == (process,)

    asyncio.run(scenario())
