"""The copy that a build script runs in: every file and every `node_modules` where the tree has it.

So what the files say of each other holds there too: `../../tsconfig.base.json`, a reference to
`../lib`, a package that only the root of the workspace has. Packages are links into the tree; those
that are in the copy themselves are links within it, which hold when it gets its final name.
"""

import contextlib
import os
import shutil
from pathlib import Path

from devstack.packs.node_files import ProgramFiles, linked_folder
from devstack.packs.node_packages import Packages


def copy_program(program: ProgramFiles, packages: Packages, copy: Path) -> None:
    """Make the copy in a folder that is not there yet."""
    for file in program.files:
        target = copy / file.relative_to(program.top)
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed while we looked
            shutil.copy2(file, target, follow_symlinks=False)
    parents = {file.parent for file in program.files}
    for place in {place for parent in parents for place in (parent, *parent.parents)}:
        if not place.is_relative_to(program.top):
            continue
        modules = packages.within(place) if place == program.source else place / "node_modules"
        if modules is not None and modules.is_dir():
            target = copy / place.relative_to(program.top) / "node_modules"
            _link_packages(modules, target, program, copy)


def _link_packages(modules: Path, target: Path, program: ProgramFiles, copy: Path) -> None:
    """One link for all where none of them is in the copy: of packages there may be thousands."""
    target.parent.mkdir(parents=True, exist_ok=True)
    packages = [
        package
        for entry in modules.iterdir()
        for package in (entry.iterdir() if entry.name.startswith("@") else (entry,))
    ]
    copied = {
        package: copy / folder.relative_to(program.top)
        for package in packages
        if (folder := linked_folder(package)) is not None
        and any(map(folder.is_relative_to, program.folders))
    }
    if not copied:
        target.symlink_to(modules)
        return
    for package in packages:
        link = target / package.relative_to(modules)
        link.parent.mkdir(parents=True, exist_ok=True)
        within = copied.get(package)
        link.symlink_to(package if within is None else os.path.relpath(within, link.parent))
