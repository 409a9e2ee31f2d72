"""Taking over a process that one of the keeper's children double-forked, as container shims do."""

import array
import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from devstack.keeper.client import KeeperClient
from devstack.keeper.errors import KeeperRefused
from devstack.keeper.places import Places
from devstack.keeper.requests import LogTarget
from tests.support.keepers import PYTHON, exit_of, running_keeper, spec
from tests.support.processes import eventually_async, is_alive

SHIM = """
import array, os, signal, socket, sys, time
path, stays = sys.argv[1], sys.argv[2] == "stays"
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.dup2(writer, 1)
    os.write(1, b"from the container\\n")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        rights = array.array("i", [reader])
        sock.sendmsg([str(os.getpid()).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    os.close(reader)
    while True:
        signal.pause()
os.waitpid(pid, 0)
if stays:
    time.sleep(1000)
"""


async def handed_over(listening: socket.socket) -> tuple[int, int]:
    """The pid and the pipe that the shim's container sends."""

    def receive() -> tuple[int, int]:
        accepted, _ = listening.accept()
        with accepted:
            data, rights, _, _ = accepted.recvmsg(100, socket.CMSG_SPACE(4))
        (descriptor,) = array.array("i", rights[0][2])
        return int(data), descriptor

    return await asyncio.to_thread(receive)


async def start_shim(keeper: KeeperClient, folder: Path, end: str) -> tuple[int, int]:
    path = str(folder / "shim.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        listening.settimeout(20)
        await keeper.spawn(spec("shim", PYTHON, "-I", "-S", "-c", SHIM, path, end))
        return await handed_over(listening)


def test_an_adopted_process_outlives_the_one_that_started_it(
    places: Places, runtime_folder: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            pid, pipe = await start_shim(keeper, runtime_folder, "stays")
            adopted = await keeper.adopt(
                pid, "web.1#1", "web", LogTarget(str(tmp_path), "web.1#1"), [pipe]
            )
            os.close(pipe)
            await keeper.stop("shim", signal.SIGTERM, 5)
            await exit_of(keeper, "shim")
            await asyncio.sleep(2.3)  # what a shim leaves behind would be killed now

            assert is_alive(pid)
            assert adopted.pid == pid
            assert [process.key for process in (await keeper.list()).processes] == ["web.1#1"]
            assert await keeper.descendants("web.1#1") == {pid}

            await keeper.stop("web.1#1", signal.SIGTERM, 5)
            ended = await exit_of(keeper, "web.1#1")

        assert (ended.code, ended.group) == (9, "web")
        assert (tmp_path / "web.1#1.log").read_bytes() == b"from the container\n"

    asyncio.run(scenario())


def test_an_adopted_process_dies_with_the_run(places: Places, runtime_folder: Path) -> None:
    async def scenario() -> int:
        async with running_keeper(places) as keeper:
            pid, pipe = await start_shim(keeper, runtime_folder, "goes")
            await exit_of(keeper, "shim")
            await keeper.adopt(pid, "web.1#1", "web", None, [pipe])
            os.close(pipe)
            os.kill(keeper.greeting.pid, signal.SIGKILL)
            await asyncio.wait_for(keeper.closed.wait(), 5)
            return pid

    pid = asyncio.run(scenario())

    assert not is_alive(pid)


def test_the_end_of_an_adopted_process_is_told_with_what_it_said(
    places: Places, runtime_folder: Path
) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            pid, pipe = await start_shim(keeper, runtime_folder, "goes")
            await exit_of(keeper, "shim")
            await keeper.adopt(pid, "web.1#1", "web", None, [pipe])
            os.close(pipe)
            os.kill(pid, signal.SIGKILL)
            ended = await exit_of(keeper, "web.1#1")
            await keeper.ack("web.1#1")
            await eventually_async(lambda: not os.path.exists(f"/proc/{pid}"))

        assert ended.signal == signal.SIGKILL
        assert ended.output == b"from the container\n"

    asyncio.run(scenario())


def test_a_process_from_elsewhere_is_not_adopted(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            with pytest.raises(KeeperRefused, match="was not started in this run"):
                await keeper.adopt(os.getpid(), "me", "me", None)
            process = await keeper.spawn(spec("a", "sleep", "1000"))
            with pytest.raises(KeeperRefused, match="is a already"):
                await keeper.adopt(process.pid, "b", "b", None)

    asyncio.run(scenario())
