"""Who may talk to the keeper, and how."""

import asyncio
import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Awaitable
from pathlib import Path

import pytest

from devstack.keeper import channel, protocol
from devstack.keeper.client import KeeperClient
from devstack.keeper.connections import Listener
from devstack.keeper.errors import KeeperRefused, KeeperUnreachable, ProtocolMismatch, SpawnError
from devstack.keeper.launch import start_keeper
from devstack.keeper.loop import Loop
from devstack.keeper.places import Places
from devstack.keeper.requests import LogTarget
from tests.support.keepers import exit_of, run_to_end, running_keeper, spec, up, worst
from tests.support.modes import watched_modes
from tests.support.processes import eventually_async, is_alive, open_files

CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    try:
        sock.connect(sys.argv[1])
        sock.sendall(b'{"id":1,"verb":"list"}\\n')
        print("answer", sock.recv(100))
    except OSError as exc:
        print(type(exc).__name__)
"""


def as_nobody(path: str) -> str:
    ended = subprocess.run(
        [
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *("/usr/bin/python3", "-I", "-c", CONNECT, path),
        ],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return ended.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try as somebody else")
def test_k01_another_user_is_refused_by_the_folder_and_by_the_keeper(
    places: Places, runtime_folder: Path
) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            at_the_folder = await asyncio.to_thread(as_nobody, places.keeper_socket)
            for folder in (runtime_folder, runtime_folder / "devstack", Path(places.folder)):
                folder.chmod(0o755)
            os.chmod(places.keeper_socket, 0o777)
            at_the_keeper = await asyncio.to_thread(as_nobody, places.keeper_socket)
            assert (await keeper.list()).has_controller

        assert at_the_folder == "PermissionError"
        assert at_the_keeper in ("answer b''", "ConnectionResetError", "BrokenPipeError")

    asyncio.run(scenario())
    assert "refused a connection of uid 65534" in Path(places.keeper_log).read_text()


def test_k02_the_socket_is_never_open_to_others(places: Places) -> None:
    async def scenario() -> None:
        umask = os.umask(0)
        try:
            async with running_keeper(places):
                status = os.stat(places.keeper_socket)
        finally:
            os.umask(umask)

        assert stat.S_IMODE(status.st_mode) == 0o700
        assert stat.S_IMODE(os.stat(places.folder).st_mode) == 0o700

    asyncio.run(scenario())


def test_k02_the_mode_is_right_at_the_moment_of_binding(tmp_path: Path) -> None:
    failures: list[Exception] = []
    loop = Loop(failures.append)
    listener = Listener(loop, str(tmp_path / "s"), lambda accepted: accepted.close())

    with watched_modes(tmp_path) as seen:
        listener.bind()
        mode = stat.S_IMODE((tmp_path / "s").stat().st_mode)
    listener.close()

    assert (seen.made, seen.changed) == (["s.new"], [])
    assert mode == 0o700
    assert failures == []
    assert list(tmp_path.iterdir()) == []


def test_another_protocol_is_answered_with_ours(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places):
            ours = protocol.PROTOCOL
            protocol.PROTOCOL = ours + 1
            try:
                with pytest.raises(ProtocolMismatch) as raised:
                    await KeeperClient.connect(places.keeper_socket)
            finally:
                protocol.PROTOCOL = ours

        assert raised.value.theirs == ours

    asyncio.run(scenario())


def test_only_the_controller_may_change_things(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await keeper.spawn(spec("a", "sleep", "1000"))
            observer = await KeeperClient.connect(places.keeper_socket, "observer")
            listing = await observer.list()
            with pytest.raises(KeeperRefused, match="only the controller"):
                await observer.kill("a")
            with pytest.raises(KeeperRefused, match="only the controller"):
                await observer.shutdown()
            observer.close()
            after = await keeper.list()

        assert [process.key for process in listing.processes] == ["a"]
        assert listing == after

    asyncio.run(scenario())


def test_a_newer_controller_takes_over_the_running_processes(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            process = await keeper.spawn(spec("a", "sleep", "1000"))
            newer = await KeeperClient.connect(places.keeper_socket)
            await asyncio.wait_for(keeper.closed.wait(), 5)
            listing = await newer.list()
            with pytest.raises(KeeperUnreachable):
                await keeper.list()
            await newer.kill("a")
            ended = await exit_of(newer, "a")
            await newer.shutdown()

        assert listing.processes == (process,)
        assert ended.pid == process.pid

    asyncio.run(scenario())


def test_nonsense_ends_the_connection_and_nothing_else(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, places.keeper_socket)
                await loop.sock_sendall(sock, b"not json\n")
                answer = await loop.sock_recv(sock, 4096)
                end = await loop.sock_recv(sock, 4096)
            with pytest.raises(KeeperRefused, match="no process nobody runs"):
                await keeper.kill("nobody")
            await keeper.list()

        assert json.loads(answer)["ok"] is False
        assert end == b""

    asyncio.run(scenario())


def test_a_removed_socket_is_bound_again(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places):
            os.unlink(places.keeper_socket)
            await eventually_async(lambda: os.path.lexists(places.keeper_socket))
            observer = await KeeperClient.connect(places.keeper_socket, "observer")
            listing = await observer.list()
            observer.close()

        assert listing.has_controller

    asyncio.run(scenario())


def test_a_removed_run_folder_is_made_again(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            # at once, since the keeper may be restoring what `rmtree` has not come to yet
            removed = os.path.dirname(places.folder)
            os.rename(removed, f"{removed}.removed")
            shutil.rmtree(f"{removed}.removed")
            record = f"{places.folder}/run-{keeper.greeting.run_id}.json"
            await eventually_async(lambda: os.path.lexists(places.keeper_socket))
            await eventually_async(lambda: os.path.lexists(record))
            mode = stat.S_IMODE(os.stat(places.folder).st_mode)
            parent = stat.S_IMODE(os.stat(os.path.dirname(places.folder)).st_mode)
            lock = os.open(places.keeper_lock, os.O_RDONLY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(lock)

        assert mode == parent == 0o700

    asyncio.run(scenario())


def test_a_keeper_whose_lock_another_one_holds_looks_on_without_end(places: Places) -> None:
    def open_locks(pid: int) -> int:
        return sum("keeper.lock" in path for path in open_files(pid))

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            os.unlink(places.keeper_lock)
            other = os.open(places.keeper_lock, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(other, fcntl.LOCK_EX)
            os.unlink(places.keeper_socket)
            log = Path(places.keeper_log)
            await eventually_async(lambda: log.read_text().count("cannot restore") >= 2)
            count = open_locks(keeper.greeting.pid)
            os.close(other)
            await eventually_async(lambda: os.path.lexists(places.keeper_socket))

        assert count == 1

    asyncio.run(scenario())


def test_d06_a_keeper_that_does_not_answer_is_given_up(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it ran ends as soon as it goes on: nobody looks after it any more."""

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            pid, warden = keeper.greeting.pid, keeper.greeting.warden
            await keeper.spawn(spec("a", "sleep", "1000"))
            monkeypatch.setattr(channel, "ANSWER_SECONDS", 0.3)
            os.kill(pid, signal.SIGSTOP)
            asked = [keeper.list(), keeper.spawn(spec("b", "true")), keeper.kill("a")]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert keeper.closed.is_set()
            os.kill(pid, signal.SIGCONT)
            await eventually_async(lambda: not is_alive(warden))

        assert all(isinstance(answer, KeeperUnreachable) for answer in answers)
        assert "does not answer" in " ".join(map(str, answers))

    asyncio.run(scenario())


def test_a_controller_that_was_stopped_itself_takes_the_answer_that_is_there() -> None:
    """Its time for the answer is over when it goes on, however soon the keeper had given it."""

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        keeper = channel.Channel(ours, lambda _: None)
        asked = asyncio.ensure_future(keeper.ask(protocol.LIST, {}))
        await asyncio.sleep(0)
        request = protocol.decode(theirs.recv(1000))

        theirs.sendall(protocol.encode({"id": request["id"], "ok": True}))
        loop = asyncio.get_running_loop()
        clock = loop.time
        loop.time = lambda: clock() + 2 * channel.ANSWER_SECONDS  # type: ignore[method-assign]  # it did not run for so long

        assert (await asked)["ok"]
        assert not keeper.closed.is_set()
        keeper.close()
        theirs.close()

    asyncio.run(scenario())


def test_a_keeper_that_ends_is_no_keeper_for_who_greets_it_then(
    places: Places, tmp_path: Path, tag: str
) -> None:
    ready = tmp_path / "ready"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await up(keeper, worst("a", tag, "deaf", f"ready={ready}"), ready)
            pid, warden = keeper.greeting.pid, keeper.greeting.warden
            os.kill(pid, signal.SIGSTOP)
            late = asyncio.ensure_future(KeeperClient.connect(places.keeper_socket))
            await asyncio.sleep(0)
            keeper.close()
            os.kill(pid, signal.SIGCONT)
            with pytest.raises(KeeperUnreachable, match="the keeper is ending"):
                await late
            await eventually_async(lambda: not is_alive(warden))

    asyncio.run(scenario())


def test_a_program_that_is_slow_to_start_is_waited_for_while_the_keeper_answers(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "ANSWER_SECONDS", 1.0)  # which a busy keeper has for each answer
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            starting = asyncio.ensure_future(keeper.spawn(spec("a", "cat", stdin=str(pipe))))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2.5):
                    await asyncio.shield(starting)
            assert (await keeper.list()).processes[0].key == "a"
            await asyncio.to_thread(pipe.write_text, "")
            await starting
            ended = await exit_of(keeper, "a")

        assert ended.code == 0

    asyncio.run(scenario())


def test_what_cannot_be_done_is_refused_and_the_keeper_lives_on(
    places: Places, tmp_path: Path
) -> None:
    async def refused(asked: Awaitable[object], match: str) -> None:
        with pytest.raises(KeeperRefused, match=match) as raised:
            await asked
        assert raised.value.kind == "invalid"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            process = await keeper.spawn(spec("a", "sleep", "1000"))
            for number in (-1, 0, 65, 1 << 40):
                await refused(keeper.signal("a", number), f"there is no signal {number}")
                await refused(keeper.stop("a", number, 1), f"there is no signal {number}")
            for log in (LogTarget(f"{tmp_path}/\0", "b"), LogTarget(str(tmp_path), "")):
                await refused(keeper.spawn(spec("b", "true", log=log)), "no place for a log")
            with (tmp_path / "file").open("w") as file:
                asked = keeper.adopt(process.pid, "c", "c", None, [file.fileno()])
                await refused(asked, "no pipe")
            listing = await keeper.list()

        assert listing.processes == (process,)

    asyncio.run(scenario())


def test_a_keeper_that_has_no_descriptor_left_says_so_and_lives_on(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            pid = keeper.greeting.pid
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
            lowest = next(number for number in range(1 << 20) if number not in taken)
            for free in (0, 1, 2, 3):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest + free, limits[1]))
                with pytest.raises(SpawnError, match="too many open files") as raised:
                    await keeper.spawn(spec(f"a{free}", "true"))
                assert not raised.value.permanent
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            assert (await run_to_end(keeper, spec("b", "true"))).code == 0

    asyncio.run(scenario())


def test_i02_a_stale_socket_is_replaced_and_a_live_one_never(places: Places) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(places.keeper_socket)

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            process = await keeper.spawn(spec("a", "sleep", "1000"))
            inode = os.stat(places.keeper_socket).st_ino
            second = asyncio.ensure_future(start_keeper(places))
            await asyncio.sleep(0.3)  # it waits for the lock of the first
            assert not second.done()
            assert os.stat(places.keeper_socket).st_ino == inode
            assert (await keeper.list()).processes == (process,)
            await keeper.shutdown()
            await second
            other = await KeeperClient.connect(places.keeper_socket)
            assert (await other.list()).processes == ()
            assert other.greeting.run_id != keeper.greeting.run_id
            await other.shutdown()

    asyncio.run(scenario())


def test_a_large_request_and_a_large_answer_pass(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            env = {"PATH": os.environ["PATH"], **{f"V{n}": "x" * 100_000 for n in range(10)}}
            count = 60
            for number in range(count):
                await keeper.spawn(
                    spec(f"a{number}", "sh", "-c", "head -c 60000 /dev/zero", env=env)
                )
            for _ in range(count):
                await asyncio.wait_for(keeper.exits.get(), 10)
            listing = await keeper.list()

        assert len(listing.exits) == count
        assert {ended.output for ended in listing.exits} == {bytes(60_000)}

    asyncio.run(scenario())


def test_without_a_keeper_the_error_names_the_socket(places: Places) -> None:
    with pytest.raises(KeeperUnreachable, match=r"no keeper answers at .*keeper\.sock"):
        asyncio.run(KeeperClient.connect(places.keeper_socket))
