"""The tools in the per-user cache: what one is, and whether it is there whole and unchanged.

Every start asks; bringing one (`tool_install`) needs ten times the modules and is imported then.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.bootstrap.lockfile import Package, Wheel
from devstack.bootstrap.ownership import is_ours

MANIFEST = "devstack-tool.json"


@dataclass(frozen=True, slots=True)
class WheelTool:
    """A locked wheel, where its programs lie in it (glob patterns), and what of it nobody runs."""

    name: str
    package: Package
    wheel: Wheel
    programs: Mapping[str, str]
    left_out: str = ""

    @property
    def folder_name(self) -> str:
        return f"{self.name}-{self.package.version}-{self.wheel.sha256[:8]}"


def cached_tool(tool: WheelTool, cache: Path) -> Mapping[str, Path] | None:
    """The tool's programs where the cache has them unchanged and ours, else None."""
    folder = cache / "tools" / tool.folder_name
    if not is_ours(folder):
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        programs = {name: folder / manifest["programs"][name]["path"] for name in tool.programs}
        if manifest["sha256"] != tool.wheel.sha256:
            return None
        unchanged = all(
            _is_unchanged(programs[name], manifest["programs"][name]) for name in programs
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return programs if unchanged else None


def _is_unchanged(program: Path, recorded: Mapping[str, object]) -> bool:
    """By size and time, as a start must be quick; by hash where the time differs (a copy, a touch)."""
    status = program.stat()
    if status.st_size != recorded["size"] or not os.access(program, os.X_OK):
        return False
    return status.st_mtime_ns == recorded["mtime_ns"] or sha256(program) == recorded["sha256"]


def sha256(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
