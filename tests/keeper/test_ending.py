"""What a run leaves to be told when it ends."""

import asyncio
import os
import signal
from pathlib import Path

from devstack.keeper import marks
from devstack.keeper.places import Places
from devstack.keeper.requests import Command
from tests.support.keepers import environment, running_keeper, up, worst
from tests.support.processes import eventually_async, is_alive


def test_what_was_killed_is_told_when_the_warden_is_lost_while_the_run_ends(
    places: Places, tmp_path: Path, tag: str
) -> None:
    ready = tmp_path / "ready"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            process = await up(keeper, worst("a", tag, "deaf", f"ready={ready}"), ready)
            pid, warden = keeper.greeting.pid, keeper.greeting.warden
            os.kill(pid, signal.SIGSTOP)  # however late the second loss: the run has not ended yet
            keeper.close()
            os.kill(warden, signal.SIGKILL)
            os.kill(pid, signal.SIGCONT)
            await eventually_async(lambda: not is_alive(pid))
            (run,) = marks.runs_in(places.folder)

        assert run.ended == "its warden was killed"
        assert f"[{process.pid}]" in "".join(run.killed)

    asyncio.run(scenario())


def test_the_last_command_may_start_what_it_likes_while_the_others_are_killed(
    places: Places, tmp_path: Path, tag: str
) -> None:
    ready, said = tmp_path / "ready", tmp_path / "said"
    program = (
        "end=$(($(date +%s) + 3)); "
        f"while [ $(date +%s) -lt $end ]; do /bin/true || echo killed; done > {said}; "
        f"echo done >> {said}"
    )

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            await up(keeper, worst("a", tag, "deaf", f"ready={ready}"), ready)
            warden = keeper.greeting.warden
            await keeper.on_loss(Command(("sh", "-c", program), environment(), "/"))
            keeper.close()
            await eventually_async(lambda: not is_alive(warden), 20)

    asyncio.run(scenario())
    assert said.read_text() == "done\n"
