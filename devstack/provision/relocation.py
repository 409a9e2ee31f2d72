"""Whether another user can run a tool, and a copy of it where that user can.

Servers that refuse root run as `nobody` where user namespaces are refused, and `nobody` cannot
reach into a private home. Parent folders are never opened up: the tool is copied instead.
"""

import shutil
import stat
from dataclasses import replace
from pathlib import Path

from devstack.bootstrap.cache import move_unless_there, remove_tree, scratch_folder
from devstack.provision.tool import Tool


def readable_by_nobody(tool: Tool) -> bool:
    """Whether every program and library folder can be reached with the rights of others."""
    paths = [*tool.binaries.values(), tool.root, *_library_folders(tool)]
    return all(_is_open(path.resolve()) for path in paths)


def relocate(tool: Tool, folder: Path) -> Tool:
    """The same tool copied below `folder`, once; blocks while it copies."""
    place = folder / tool.root.parent.name / tool.root.name
    if not place.is_dir():
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        scratch = scratch_folder(place)
        scratch.chmod(0o755)
        try:
            made = scratch / "tool"
            shutil.copytree(tool.root, made, symlinks=True)
            move_unless_there(made, place)
        finally:
            remove_tree(scratch)
    moved = {name: _moved(path, tool.root, place) for name, path in tool.binaries.items()}
    env = {name: value.replace(str(tool.root), str(place)) for name, value in tool.env.items()}
    return replace(tool, binaries=moved, env=env, root=place)


def _moved(path: Path, root: Path, place: Path) -> Path:
    for candidate in (path, path.resolve()):
        if candidate.is_relative_to(root):
            return place / candidate.relative_to(root)
    return path


def _library_folders(tool: Tool) -> list[Path]:
    value = tool.env.get("LD_LIBRARY_PATH", "")
    return [Path(name) for name in value.split(":") if name]


def _is_open(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
        needed = stat.S_IROTH | stat.S_IXOTH if path.is_dir() else stat.S_IROTH
        if mode & needed != needed:
            return False
        return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
    except OSError:
        return False
