"""The folder in which a tool is made: what is moved from it is moved whole, or not at all."""

import asyncio
import threading
from pathlib import Path

import pytest

from devstack.bootstrap import cache
from devstack.provision import held_place as module
from devstack.provision.held_place import held_place, keep
from tests.support.steps import SubprocessSteps


def test_who_is_cancelled_while_a_tool_is_moved_leaves_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving, may_move = threading.Event(), threading.Event()
    move = cache.move_into_place

    def slowly(made: Path, place: Path) -> None:
        moving.set()
        assert may_move.wait(30)
        move(made, place)

    monkeypatch.setattr(module, "move_into_place", slowly)
    place = tmp_path / "cache" / "tools" / "tool-1"

    async def bring() -> None:
        async with held_place(place, SubprocessSteps(), "tool") as scratch:
            made = scratch / "tool"
            made.mkdir()
            (made / "program").write_text("whole")
            await keep(made, place)

    async def scenario() -> None:
        bringing = asyncio.create_task(bring())
        await asyncio.to_thread(moving.wait, 30)
        bringing.cancel()
        await asyncio.wait({bringing}, timeout=0.1)
        assert not bringing.done()
        may_move.set()
        with pytest.raises(asyncio.CancelledError):
            await bringing

    asyncio.run(scenario())
    assert (place / "program").read_text() == "whole"
    assert [path.name for path in place.parent.iterdir() if path.is_dir()] == ["tool-1"]
