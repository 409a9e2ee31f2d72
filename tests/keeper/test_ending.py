"""What a run leaves to be told when it ends."""

import asyncio
import os
import signal
from pathlib import Path

from devstack.keeper import marks
from devstack.keeper.places import Places
from tests.support.keepers import running_keeper, up, worst
from tests.support.processes import eventually_async, is_alive


def test_what_was_killed_is_told_when_the_warden_is_lost_while_the_run_ends(
    places: Places, tmp_path: Path, tag: str
) -> None:
    ready = tmp_path / "ready"

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            process = await up(keeper, worst("a", tag, "deaf", f"ready={ready}"), ready)
            pid, warden = keeper.greeting.pid, keeper.greeting.warden
            keeper.close()
            await eventually_async(lambda: not os.path.lexists(places.keeper_socket))
            os.kill(warden, signal.SIGKILL)
            await eventually_async(lambda: not is_alive(pid))
            (run,) = marks.runs_in(places.folder)

        assert run.ended == "its warden was killed"
        assert f"[{process.pid}]" in "".join(run.killed)

    asyncio.run(scenario())
