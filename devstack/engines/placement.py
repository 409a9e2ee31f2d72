"""Where programs and data lie when a server that refuses root must run as `nobody`.

A home of root is closed to `nobody`, so there the data, and programs that `nobody` cannot reach,
lie below `/var/tmp/devstack-ID`, and the wanted data folder is a link to them. In a user namespace
and for an ordinary user everything stays where it was asked for.
"""

import asyncio
import contextlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from devstack.engines.base import NOBODY, CannotPrepare, Site
from devstack.engines.folder import exclusive
from devstack.provision.relocation import readable_by_nobody, relocate
from devstack.provision.tool import Tool
from devstack.steps import RunAs

_VAR_TMP = Path("/var/tmp")  # noqa: S108 - each folder below is checked, see _own_folder


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one database is really made."""

    data: Path
    templates: Path
    tool: Tool
    run_as: RunAs
    owner: int | None
    """The uid that must own all of it; None: whoever makes it."""


def unprivileged_root(stack_id: str) -> Path:
    """The folder of a stack's servers that run as `nobody`; `down --volumes` lists and drops it."""
    return _VAR_TMP / f"devstack-{stack_id}"


async def place_for_unprivileged(site: Site, tool: Tool) -> Placement:
    """Decide where a server that refuses root works, and copy its programs there if it must be."""
    if site.unprivileged != "nobody":
        _refuse_data_of_nobody(site.data)
    if site.unprivileged == "not needed":
        return Placement(site.data, site.templates, tool, "same", None)
    if site.unprivileged == "user namespace":
        return Placement(site.data, site.templates, tool, "unprivileged", None)
    root = unprivileged_root(site.stack_id)
    _own_folder(root)
    if not readable_by_nobody(tool):
        place = root / "tools"
        async with exclusive(place):
            tool = await asyncio.to_thread(relocate, tool, place)
    real = root / "data" / site.data.name
    _own_folder(root / "data")
    _own_folder(root / "templates")
    _link(site.data, real)
    return Placement(real, root / "templates", tool, "unprivileged", NOBODY)


def hand_over(folder: Path, owner: int | None) -> None:
    """Give a folder and everything in it to the uid that runs the server."""
    if owner is None:
        return
    os.chown(folder, owner, owner)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(parent) / name, owner, owner, follow_symlinks=False)


def remove_data(data: Path) -> None:
    """Drop a data folder, wherever it really lies; fine where there is none."""
    if data.is_symlink():
        shutil.rmtree(data.readlink(), ignore_errors=True)
        data.unlink()
    elif data.exists():
        shutil.rmtree(data)


def _own_folder(folder: Path) -> None:
    """Make it for `nobody` alone. `/var/tmp` is everybody's: what is there already is looked at."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != NOBODY or seen.st_mode & 0o077:
        raise CannotPrepare(
            f"cannot use {folder}: it is not a private folder of uid {NOBODY}",
            f"look who made it, then remove it: rm -r {folder}",
        )


def _refuse_data_of_nobody(wanted: Path) -> None:
    if wanted.is_symlink() and wanted.readlink().is_relative_to(_VAR_TMP):
        raise CannotPrepare(
            f"cannot use {wanted}: it was made by a server that ran as nobody",
            f"drop the data: devstack reset {wanted.name}",
        )


def _link(wanted: Path, real: Path) -> None:
    if wanted.is_symlink() and wanted.readlink() == real:
        return
    if wanted.exists() and not wanted.is_symlink():
        raise CannotPrepare(
            f"cannot use {wanted}: it was made by a server that did not run as nobody, "
            "and user namespaces are refused here",
            f"allow user namespaces, or drop the data: devstack reset {wanted.name}",
        )
    wanted.parent.mkdir(parents=True, exist_ok=True)
    wanted.unlink(missing_ok=True)
    wanted.symlink_to(real)
