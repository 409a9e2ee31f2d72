"""What the keeper may not signal (`sudo`, setuid programs): it is told, and in nobody else's way.

The keeper of these tests is root without CAP_KILL, and what it starts takes another user.
"""

import asyncio
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.keeper import marks, sweep
from devstack.keeper.answers import LeftBehind
from devstack.keeper.errors import KeeperRefused
from devstack.keeper.places import Places
from devstack.keeper.requests import Command
from tests.support.keepers import (
    PYTHON,
    environment,
    exit_of,
    read_if_there,
    run_to_end,
    running_keeper,
    spec,
)
from tests.support.processes import Found, eventually, eventually_async, is_alive, with_tag

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can be another user"
)

AS_ANOTHER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture(autouse=True)
def _keepers_without_the_right_to_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\nexec setpriv --bounding-set=-kill --inh-caps=-kill {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


@pytest.fixture
def tag(tag: str) -> Iterator[str]:
    yield tag
    end(tag)


def end(tag: str) -> list[Found]:
    """What the keeper could not end, the test can."""
    found = with_tag(tag)
    for process in found:
        os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not with_tag(tag))
    return found


def sleeper(tag: str, word: str) -> tuple[str, ...]:
    return PYTHON, "-I", "-S", "-c", "import signal; signal.pause()", tag, word


def named(tag: str, word: str) -> list[Found]:
    return [found for found in with_tag(tag) if found.command.endswith(f" {word}")]


def is_foreign(process: Found) -> bool:
    """Whether it has taken its other user: until then the keeper may signal it."""
    return os.stat(f"/proc/{process.pid}").st_uid == 65534


def test_the_others_get_their_second_and_the_last_command_runs_when_the_controller_is_lost(
    places: Places, tmp_path: Path, tag: str
) -> None:
    said, done, up = tmp_path / "said", tmp_path / "done", tmp_path / "up"
    program = f"trap 'sleep 0.1; echo tidy > {said}; exit' TERM; echo > {up}; while :; do sleep 0.01; done"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await keeper.spawn(spec("a", *AS_ANOTHER, *sleeper(tag, "foreign")))
            await keeper.spawn(spec("b", "sh", "-c", program, tag))
            await keeper.on_loss(
                Command(("sh", "-c", f"echo containers > {done}"), environment(), "/")
            )
            await eventually_async(lambda: any(map(is_foreign, named(tag, "foreign"))))
            await eventually_async(up.exists)
            warden = keeper.greeting.warden
            keeper.close()
            await eventually_async(lambda: not is_alive(warden))
            (foreign,) = named(tag, "foreign")
            (run,) = marks.runs_in(places.folder)
            reported = sweep.sweep([places], kill=False)
            end(tag)

        assert said.read_text() == "tidy\n"
        assert done.read_text() == "containers\n"
        assert run.ended == "its controller was lost"
        assert [f"[{foreign.pid}]" in name for name in reported[0].found] == [True]
        assert "still there: " in str(reported[0])
        assert sweep.sweep([places], kill=True)[0].found == ()
        assert marks.runs_in(places.folder) == []

    asyncio.run(scenario())
    assert "cannot signal a: Operation not permitted" in Path(places.keeper_log).read_text()


def test_a_replica_that_may_not_be_asked_to_end_is_killed_after_its_grace_as_far_as_it_may_be(
    places: Places, tag: str
) -> None:
    program = (
        "import os, signal, subprocess, sys\n"
        "subprocess.Popen(sys.argv[1:])\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "signal.pause()\n"
    )

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await keeper.spawn(spec("a", PYTHON, "-c", program, *sleeper(tag, "child")))
            await eventually_async(lambda: len(with_tag(tag)) == 2)
            await eventually_async(lambda: is_foreign(main(tag)))
            with pytest.raises(KeeperRefused, match="cannot signal a: Operation not permitted"):
                await keeper.stop("a", signal.SIGTERM, 0.1)
            await eventually_async(lambda: len(with_tag(tag)) == 1)
            end(tag)
            ended = await exit_of(keeper, "a")

        assert ended.signal == signal.SIGKILL

    def main(tag: str) -> Found:
        return next(found for found in with_tag(tag) if "subprocess" in found.command)

    asyncio.run(scenario())


def test_a_daemon_that_cannot_be_killed_is_told_and_the_run_is_not_forgotten(
    places: Places, tmp_path: Path, tag: str
) -> None:
    ready = tmp_path / "ready"
    daemon = shlex.join(("setsid", *AS_ANOTHER, *sleeper(tag, "foreign")))
    program = f"{daemon} & until grep -q ^python /proc/$!/comm; do :; done; echo up > {ready}"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await run_to_end(keeper, spec("a", "sh", "-c", program))
            (foreign,) = await eventually_async(lambda: named(tag, "foreign"))
            async with asyncio.timeout(20):
                notice = await keeper.notices.get()
            killed = await keeper.shutdown()
            warden = keeper.greeting.warden
            await eventually_async(lambda: not is_alive(warden))
            (run,) = marks.runs_in(places.folder)
            (dead,) = sweep.sweep([places], kill=False)
            end(tag)

        name = f"{foreign.name}[{foreign.pid}]"
        assert isinstance(notice, LeftBehind)
        assert name in notice.still_there
        assert name not in (*notice.killed, *killed, *run.killed)
        assert name in dead.found
        assert str(dead).startswith("the last run ended because it was asked to end; still there: ")
        sweep.sweep([places], kill=True)
        assert marks.runs_in(places.folder) == []

    asyncio.run(scenario())
    assert read_if_there(ready)
