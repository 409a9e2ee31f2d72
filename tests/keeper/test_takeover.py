"""What a controller hears of what an earlier one asked for."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from devstack.keeper.client import KeeperClient
from devstack.keeper.connections import Connection
from devstack.keeper.errors import KeeperUnreachable
from devstack.keeper.loop import Loop
from devstack.keeper.places import Places
from tests.support.keepers import exit_of, running_keeper, spec


def test_a_start_that_fails_when_its_asker_is_gone_is_an_exit_for_the_next(
    places: Places, tmp_path: Path
) -> None:
    """The next one saw it among what runs, and would wait for its end for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            asked = asyncio.ensure_future(keeper.spawn(spec("a", "./none-such", stdin=str(pipe))))
            await keeper.list()  # answered after the start was begun
            newer = await KeeperClient.connect(places.keeper_socket)
            assert [process.key for process in (await newer.list()).processes] == ["a"]
            with pytest.raises(KeeperUnreachable):
                await asyncio.wait_for(asked, 20)
            await asyncio.to_thread(pipe.write_text, "")
            ended = await exit_of(newer, "a", 5)
            assert (await newer.list()).processes == ()
            await newer.ack("a")
            assert (await newer.list()).exits == ()
            await newer.shutdown()

        assert ended.code == 127

    asyncio.run(scenario())


def test_what_is_sent_to_a_client_that_has_gone_is_known_to_be_unheard() -> None:
    """Also before the loop hears of its end: a failed start is kept for the next controller then."""
    ours, theirs = socket.socketpair()
    connection = Connection(Loop(lambda _: None), ours, lambda *_: None, lambda _: None)
    assert connection.send({"id": 1})

    theirs.close()

    assert not connection.send({"id": 2})
    connection.close()
