"""Ending processes: graces, daemons, what keeps a pipe open, and zombies."""

import asyncio
import os
import shlex
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devstack.keeper import processes
from devstack.keeper.answers import LeftBehind
from devstack.keeper.client import KeeperClient
from devstack.keeper.places import Places
from devstack.keeper.requests import LogTarget
from tests.support.keepers import (
    PYTHON,
    exit_of,
    read_if_there,
    run_to_end,
    running_keeper,
    spec,
    up,
    worst,
)
from tests.support.processes import eventually_async, is_alive, with_tag


def test_a_process_that_obeys_ends_by_the_signal_it_was_sent(
    places: Places, tmp_path: Path
) -> None:
    up = tmp_path / "up"
    program = f"trap 'echo bye; exit 7' INT; echo up | tee {up}; while :; do sleep 0.01; done"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await keeper.spawn(spec("a", "sh", "-c", program))
            await eventually_async(lambda: read_if_there(up))
            await keeper.stop("a", signal.SIGINT, 10)
            ended = await exit_of(keeper, "a")

        assert ended.code == 7
        assert ended.output == b"up\nbye\n"

    asyncio.run(scenario())


def test_a_deaf_process_is_killed_with_its_children_after_its_grace(
    places: Places, tmp_path: Path, tag: str
) -> None:
    ready = tmp_path / "ready"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await up(keeper, worst("a", tag, "deaf", "child", f"ready={ready}"), ready)
            asked = time.monotonic()
            await keeper.stop("a", signal.SIGTERM, 0.3)
            ended = await exit_of(keeper, "a")
            await eventually_async(lambda: not with_tag(tag))

        assert ended.signal == signal.SIGKILL
        assert 0.3 <= ended.at - asked < 2

    asyncio.run(scenario())


def test_a_stopped_process_is_woken_so_that_it_can_end(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await keeper.spawn(spec("a", "sleep", "1000"))
            await keeper.signal("a", signal.SIGSTOP)
            await keeper.stop("a", signal.SIGTERM, 10)
            ended = await exit_of(keeper, "a")

        assert ended.signal == signal.SIGTERM

    asyncio.run(scenario())


def test_a04_a_daemon_ends_with_its_service_and_a_siblings_does_not(
    places: Places, tmp_path: Path, tag: str
) -> None:
    def all_four(key: str) -> set[int]:
        """Itself, its child and its daemons; the process between a daemon and its parent goes soon."""
        found = {found.pid for found in with_tag(f"{tag}-{key}")}
        return found if len(found) == 4 else set()

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            for key in ("a", "b"):
                asked = worst(
                    key, f"{tag}-{key}", "child", "daemon", "bare", f"ready={tmp_path}/{key}"
                )
                await up(keeper, asked, tmp_path / key)
            ours = await eventually_async(lambda: all_four("a"))
            theirs = await eventually_async(lambda: all_four("b"))
            belonging = await keeper.descendants("a")

            asked_at = time.monotonic()
            await keeper.stop("a", signal.SIGTERM, 10)
            ended = await exit_of(keeper, "a")
            assert ended.at - asked_at < 5, "before its grace is over"
            await eventually_async(lambda: not with_tag(f"{tag}-a"))
            still = {found.pid for found in with_tag(f"{tag}-b")}
            sibling = await keeper.descendants("b")

        assert ours <= belonging
        assert not belonging & theirs
        assert theirs <= sibling
        assert still == theirs
        # sh and its sleep of each daemon, and the child that was left
        assert any(name.startswith("sh[") for name in ended.left_behind)

    asyncio.run(scenario())


def test_a04_a_deaf_daemon_is_killed_two_seconds_after_its_service_and_named(
    places: Places, tmp_path: Path
) -> None:
    up = tmp_path / "up"
    daemon = f"trap '' TERM HUP; echo > {up}; while :; do sleep 0.1; done"
    program = f'setsid sh -c "{daemon}" & until [ -e {up} ]; do sleep 0.01; done; exit 0'

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            ended = await run_to_end(keeper, spec("a", "sh", "-c", program))
            (name,) = (name for name in ended.left_behind if name.startswith("sh["))
            pid = int(name[3:-1])
            assert is_alive(pid)
            async with asyncio.timeout(10):
                notice = await keeper.notices.get()
            gone_at = time.monotonic()

        assert isinstance(notice, LeftBehind)
        assert notice.key == "a"
        assert name in notice.killed
        assert not is_alive(pid)
        assert 1.9 <= gone_at - ended.at < 5

    asyncio.run(scenario())


def test_a07_an_exit_is_told_while_a_grandchild_holds_the_pipe(
    places: Places, tmp_path: Path
) -> None:
    """And what the grandchild says within 2 s is kept."""
    told = tmp_path / "told"
    late = f"until [ -e {told} ]; do sleep 0.01; done; echo late; exec sleep 1000"
    program = f"({late}) & echo early; exit 5"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            log = LogTarget(str(tmp_path), "a")
            ended = await run_to_end(keeper, spec("a", "sh", "-c", program, log=log))
            told.touch()
            async with asyncio.timeout(10):
                notice = await keeper.notices.get()
            took = []
            for number in range(10):  # the best of several: a busy machine delays any one of them
                started = time.monotonic()
                holder = spec(f"b{number}", "sh", "-c", "sleep 1000 & exit 0")
                took.append((await run_to_end(keeper, holder)).at - started)

        assert ended.code == 5
        assert min(took) < 0.1
        assert isinstance(notice, LeftBehind)
        assert (tmp_path / "a.log").read_bytes() == b"early\nlate\n"

    asyncio.run(scenario())


SERVER = """
trap 'echo asked; until [ -e {folder}/gate ]; do sleep 0.01; done; echo tidy; exit' {signal}
echo up
while :; do sleep 0.01; done
"""


def server_in(folder: Path, signal_name: str = "TERM") -> str:
    """A command that says `up`, `asked` when it is to end, and `tidy` once there is a gate."""
    script = folder / "server.sh"
    script.write_text(SERVER.format(folder=folder, signal=signal_name))
    return f"sh {script}"


def said(folder: Path) -> bytes:
    """What the log of `a` has."""
    return (folder / "a.log").read_bytes()


@asynccontextmanager
async def serving(places: Places, folder: Path, *argv: str) -> AsyncIterator[KeeperClient]:
    """A keeper in which `a` runs this, with the server of `server_in` in it, which is up."""
    async with running_keeper(places) as keeper:
        await keeper.spawn(spec("a", *argv, log=LogTarget(str(folder), "a")))
        await eventually_async(lambda: said(folder) == b"up\n")
        yield keeper


@pytest.mark.parametrize("command", ["{server}; true", "{server} & wait", "sh -c '{server}; true'"])
def test_a_program_behind_a_shell_has_the_grace_and_the_end_is_told_when_it_has_ended(
    places: Places, tmp_path: Path, command: str
) -> None:
    program = command.format(server=server_in(tmp_path))

    async def scenario() -> None:
        async with serving(places, tmp_path, "sh", "-c", program) as keeper:
            await keeper.stop("a", signal.SIGTERM, 60)
            await eventually_async(lambda: said(tmp_path) == b"up\nasked\n")
            (process,) = (await keeper.list()).processes
            await eventually_async(lambda: not is_alive(process.pid))
            assert [p.key for p in (await keeper.list()).processes] == ["a"]
            assert keeper.exits.empty()
            (tmp_path / "gate").touch()
            ended = await exit_of(keeper, "a")
            assert (await keeper.list()).processes == ()

        assert ended.signal == signal.SIGTERM
        assert ended.left_behind == ()
        assert keeper.notices.empty()
        assert said(tmp_path) == b"up\nasked\ntidy\n"

    asyncio.run(scenario())


def test_the_last_words_of_what_stood_behind_a_shell_are_told_with_the_end(
    places: Places, tmp_path: Path
) -> None:
    up = tmp_path / "up"
    talks = "import os, time; [os.write(1, b'.') or time.sleep(0.0002) for _ in range(200)]"
    server = tmp_path / "server.sh"
    server.write_text(
        f"trap '{PYTHON} -I -S -c \"$TALKS\"; echo done; exit' TERM\n"
        f": > {up}\nwhile :; do sleep 0.01; done\n"
    )

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            asked = spec("a", "sh", "-c", f"TALKS={shlex.quote(talks)} sh {server}; true")
            await keeper.spawn(asked)
            await eventually_async(up.exists)
            await keeper.stop("a", signal.SIGTERM, 60)
            ended = await exit_of(keeper, "a")

        assert ended.output == b"." * 200 + b"done\n"

    asyncio.run(scenario())


def test_a_shell_does_not_keep_the_signal_that_is_meant_for_its_program(
    places: Places, tmp_path: Path
) -> None:
    """A shell that waits for its program takes INT when that has ended, and hands it to nobody."""
    server = server_in(tmp_path, "INT")
    (tmp_path / "gate").touch()

    async def scenario() -> None:
        async with serving(places, tmp_path, "sh", "-c", f"{server}; true") as keeper:
            await keeper.stop("a", signal.SIGINT, 60)
            await exit_of(keeper, "a")

        assert said(tmp_path) == b"up\nasked\ntidy\n"

    asyncio.run(scenario())


def test_what_is_deaf_behind_a_shell_is_killed_after_the_grace_and_named(
    places: Places, tmp_path: Path
) -> None:
    server = server_in(tmp_path)  # without a gate

    async def scenario() -> None:
        async with serving(places, tmp_path, "sh", "-c", f"{server}; true") as keeper:
            asked = time.monotonic()
            await keeper.stop("a", signal.SIGTERM, 2.0)  # it has to come to say `asked`
            ended = await exit_of(keeper, "a")
            passed = time.monotonic() - asked

        assert any(name.startswith("sh[") for name in ended.left_behind)
        assert 2.0 <= passed < 30
        assert said(tmp_path) == b"up\nasked\n"

    asyncio.run(scenario())


def test_a_shell_with_a_trap_of_its_own_is_asked_alone(places: Places, tmp_path: Path) -> None:
    server = server_in(tmp_path)
    (tmp_path / "gate").touch()
    program = f"trap 'echo mine; kill $!; wait $!; exit 3' TERM; {server} & wait"

    async def scenario() -> None:
        async with serving(places, tmp_path, "sh", "-c", program) as keeper:
            await keeper.stop("a", signal.SIGTERM, 60)
            ended = await exit_of(keeper, "a")

        assert ended.code == 3
        assert said(tmp_path) == b"up\nmine\nasked\ntidy\n"

    asyncio.run(scenario())


def test_children_of_what_is_no_shell_are_asked_when_it_left_them(
    places: Places, tmp_path: Path
) -> None:
    """A server ends its workers itself; told by somebody else they would end too early."""
    server = server_in(tmp_path)
    (tmp_path / "gate").touch()
    program = (
        "import os, signal, subprocess, sys, time\n"
        "def end(*_):\n"
        "    os.write(1, b'mine\\n')\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "subprocess.Popen(sys.argv[1].split())\n"
        "while True: time.sleep(1000)\n"
    )

    async def scenario() -> None:
        async with serving(places, tmp_path, PYTHON, "-c", program, server) as keeper:
            await keeper.stop("a", signal.SIGTERM, 60)
            ended = await exit_of(keeper, "a")

        assert ended.code == 0
        assert said(tmp_path) == b"up\nmine\nasked\ntidy\n"

    asyncio.run(scenario())


def test_a11_orphans_are_reaped(places: Places, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = (
        "import os, sys, time\n"
        "for n in range(200):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: os.open(sys.argv[1], os.O_RDONLY)\n"
        "        os._exit(0)\n"
        "while True:\n"
        "    try: os.wait()\n"
        "    except ChildProcessError: break\n"
        "time.sleep(1000)\n"
    )

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await keeper.spawn(spec("a", PYTHON, "-c", program, str(gate)))
            pid = keeper.greeting.pid
            await eventually_async(lambda: len(processes.children_of(pid)) == 201)
            opened = os.open(gate, os.O_RDWR)  # which ends all that wait for a writer
            await eventually_async(lambda: len(processes.children_of(pid)) == 1)
            os.close(opened)

    asyncio.run(scenario())


def test_a14_stopping_in_the_middle_of_a_start_kills_that_process_alone(places: Places) -> None:
    rounds = 100

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await keeper.spawn(spec("bystander", "sleep", "1000"))
            for number in range(rounds):
                key = f"a{number}"
                starting = asyncio.ensure_future(keeper.spawn(spec(key, "sleep", "1000")))
                await asyncio.sleep(0)  # sent, and not answered yet
                await asyncio.sleep(number % 20 / 4000)
                await keeper.stop(key, signal.SIGTERM, 5)
                await starting
                ended = await exit_of(keeper, key)
                assert ended.signal == signal.SIGTERM
                await keeper.ack(key)
            listing = await keeper.list()

        assert [process.key for process in listing.processes] == ["bystander"]

    asyncio.run(scenario())


def test_killing_takes_a_whole_tree_at_once(places: Places, tmp_path: Path, tag: str) -> None:
    ready = tmp_path / "ready"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            asked = worst("probe:a:1", tag, "deaf", "child", "daemon", "bare", f"ready={ready}")
            await up(keeper, asked, ready)
            await keeper.kill("probe:a:1")
            ended = await exit_of(keeper, "probe:a:1")
            # sooner than what an ended process left behind
            await eventually_async(lambda: not with_tag(tag), 1.8)

        assert ended.signal == signal.SIGKILL

    asyncio.run(scenario())


def test_a_process_that_forks_all_the_time_does_not_escape(places: Places, tag: str) -> None:
    """Each generation starts the next in a session of its own and ends."""
    program = (
        "import os, time\n"
        "while True:\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid()\n"
        "    time.sleep(0.001)\n"
        f"# {tag}\n"
    )

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await run_to_end(keeper, spec("a", PYTHON, "-S", "-c", program))
            before = {found.pid for found in with_tag(tag)}
            await eventually_async(lambda: {found.pid for found in with_tag(tag)} - before)
            await keeper.kill("a")
            await eventually_async(lambda: not with_tag(tag) and not with_tag(tag), 1.5)

    asyncio.run(scenario())


def test_shutdown_ends_everything_and_forgets_the_run(
    places: Places, tmp_path: Path, tag: str
) -> None:
    ready = tmp_path / "ready"

    async def scenario() -> tuple[str, ...]:
        async with running_keeper(places) as keeper:
            asked = worst("a", tag, "deaf", "child", "daemon", "bare", f"ready={ready}")
            await up(keeper, asked, ready)
            killed = await keeper.shutdown()
            await asyncio.wait_for(keeper.closed.wait(), 5)
            return killed

    killed = asyncio.run(scenario())

    assert len(killed) >= 4
    assert not with_tag(tag)
    names = {path.name for path in Path(places.folder).iterdir()}
    assert not {name for name in names if name.endswith((".sock", ".mark", ".json"))}


def test_ending_what_has_ended_is_no_error(places: Places) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await run_to_end(keeper, spec("a", "true"))
            await keeper.stop("a", signal.SIGTERM, 1)
            await keeper.signal("a", signal.SIGHUP)
            await keeper.kill("a")

    asyncio.run(scenario())
