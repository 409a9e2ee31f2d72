"""Where a keeper is started from."""

import asyncio
import os
import subprocess
import sys

import pytest

from devstack.keeper.errors import KeeperUnreachable
from devstack.keeper.launch import keeper_started
from devstack.keeper.places import Places
from devstack.keeper.starting import Starting
from tests.support.processes import assert_nothing_left
from tests.support.stacks import REPOSITORY

PROGRAM = """
import asyncio, signal, sys
from devstack.keeper.client import KeeperClient
from devstack.keeper.launch import start_keeper
from devstack.keeper.places import Places
from devstack.keeper.requests import SpawnSpec

async def main():
    places = Places(sys.argv[1])
    run_id = await start_keeper(places)
    keeper = await KeeperClient.connect(places.keeper_socket)
    await keeper.spawn(SpawnSpec("a", "a", ("sh", "-c", "exit 3"), {}, "/"))
    ended = await keeper.exits.get()
    await keeper.spawn(SpawnSpec("b", "b", ("sleep", "1000"), {}, "/"))
    await keeper.shutdown()
    print(run_id, ended.code)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
asyncio.run(main())
"""


def test_a_caller_that_ignores_the_end_of_its_children_gets_a_keeper_that_does_not(
    places: Places,
) -> None:
    """As after `trap '' CHLD` in a shell, which all that it starts inherits."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, places.folder],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=60,
    )

    run_id, code = ended.stdout.split()
    assert code == "3"
    assert_nothing_left(run_id)


def test_why_a_keeper_did_not_start_is_told_though_it_ended_long_ago(places: Places) -> None:
    """Where the ends of children are ignored nothing is left of it by then."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    reader, writer = os.pipe()
    os.write(writer, b"there is a reason\n")
    os.close(writer)

    with pytest.raises(KeeperUnreachable, match="there is a reason"):
        asyncio.run(keeper_started(places, Starting(ended.pid, reader, "run")))
