"""Asking provision for tools during a step, with one search for each tool at a time."""

from devstack.packs.base import FindTool
from devstack.provision import find_tool
from devstack.provision.tool import Settings, Tool
from devstack.runtimes.process.steps import KeeperSteps


def tool_finder(steps: KeeperSteps | None, settings: Settings) -> FindTool:
    """What packs ask for toolchains with; without steps (detecting only) it must not be asked."""

    async def find(name: str, wanted: str | None) -> Tool:
        assert steps is not None, "detecting a language needs no tool"
        return await find_tool(name, wanted=wanted, steps=steps, settings=settings)

    return find
