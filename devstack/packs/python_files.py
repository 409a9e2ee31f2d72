"""Which files make up a Python service: its own, its manifest's, and those of packages beside it."""

import os
from collections.abc import Iterator
from pathlib import Path

from devstack.packs.base import CannotPrepare
from devstack.packs.digest import walk_source
from devstack.packs.python_manifest import Manifest, find_manifest, local_path, read_requirements
from devstack.packs.python_setup import NAMES as SETUP_FILES
from devstack.packs.python_uv import local_packages

_CODE = (".py", ".pyi", ".pyx", ".html", ".jinja", ".j2", ".sql")
_PROJECT_FILES = ("pyproject.toml", *SETUP_FILES)


def program_files(source: Path) -> tuple[Path, ...]:
    """The files that may change what a service is or does."""
    own = walk_source(source, code_suffixes=_CODE)
    outside: set[Path] = set()
    try:
        manifest = find_manifest(source)
        outside.update(file for file in manifest.files if not file.is_relative_to(source))
        for folder in _package_folders(manifest, source):
            outside.update(package_files(folder, source))
    except CannotPrepare:
        pass  # preparing it tells the mistake
    return tuple(sorted(outside.union(own), key=os.fspath)) if outside else own


def package_files(folder: Path, source: Path) -> tuple[Path, ...]:
    """All files of a folder; of one that contains the service the code that it can import.

    Other services lie in such a one too, and what they write.
    """
    if not source.is_relative_to(folder):
        return walk_source(folder, code_suffixes=_CODE)
    own = os.fspath(source)
    files = walk_source(
        folder,
        code_suffixes=_CODE,
        pruned=lambda entry: entry.path == own or not _leads_to_modules(entry),
    )
    return tuple(file for file in files if file.suffix in _CODE or file.name in _PROJECT_FILES)


def _leads_to_modules(folder: os.DirEntry[str]) -> bool:
    return folder.name == "src" or os.path.lexists(f"{folder.path}/__init__.py")


def _package_folders(manifest: Manifest, source: Path) -> Iterator[Path]:
    """Folders elsewhere that packages are imported from, or copied from when they are installed."""
    match manifest.kind:
        case "uv":
            folders = [package.folder for package in local_packages(manifest.files[-1], source)]
        case "requirements":
            lines = read_requirements(manifest.files[0])
            folders = [p for line in lines if line.is_editable and (p := local_path(line))]
        case _:
            folders = []
    return (folder for folder in folders if not folder.is_relative_to(source))
