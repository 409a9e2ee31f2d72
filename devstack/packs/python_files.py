"""Which files make up a Python service: its own, its manifest's, and those of packages beside it."""

import os
from pathlib import Path

from devstack.packs.base import CannotPrepare
from devstack.packs.digest import merge_files, walk_source
from devstack.packs.python_manifest import (
    Manifest,
    Requirement,
    find_manifest,
    is_project_itself,
    local_path,
    read_requirements,
)
from devstack.packs.python_setup import NAMES as SETUP_FILES
from devstack.packs.python_uv import LocalPackage, locked_packages, path_sources
from devstack.packs.toml_tables import read_toml, string, table

_CODE = (".py", ".pyi", ".pyx", ".html", ".jinja", ".j2", ".sql")
_PROJECT_FILES = ("pyproject.toml", *SETUP_FILES)


def program_files(source: Path) -> tuple[Path, ...]:
    """The files that may change what a service is or does."""
    own = walk_source(source, code_suffixes=_CODE)
    outside: set[Path] = set()
    try:
        manifest = find_manifest(source)
        outside.update(file for file in manifest.files if not file.is_relative_to(source))
        for package in local_packages(manifest, source):
            if not package.folder.is_relative_to(source):
                outside.update(package_files(package.folder, source))
    except CannotPrepare:
        pass  # preparing it tells the mistake
    return merge_files([own], outside)


def local_packages(manifest: Manifest, source: Path) -> tuple[LocalPackage, ...]:
    """The folders that packages are imported from, or copied from when they are installed."""
    match manifest.kind:
        case "uv":
            return locked_packages(manifest.files[-1], source)
        case "requirements":
            lines = read_requirements(manifest.files[0])
            found = [p for line in lines if (p := _required_folder(line, source)) is not None]
        case "pyproject":
            found = list(path_sources(source))
        case _:
            return ()
    known = {source, *(package.folder for package in found)}
    for package in found:  # which grows meanwhile
        further = [p for p in path_sources(package.folder) if p.folder not in known]
        found += further
        known.update(p.folder for p in further)
    return tuple(found)


def project_files(folder: Path) -> tuple[Path, ...]:
    """Those that say what a package asks for, whether they are there or not."""
    return tuple(folder / name for name in _PROJECT_FILES)


def package_files(folder: Path, source: Path) -> tuple[Path, ...]:
    """All files of a folder; of one that contains the service the code that it can import.

    Other services lie in such a one too, and what they write. `build` is left there by setuptools
    whenever it copies the package.
    """
    if not source.is_relative_to(folder):
        built = os.fspath(folder / "build")
        return walk_source(folder, code_suffixes=_CODE, pruned=lambda entry: entry.path == built)
    own = os.fspath(source)
    files = walk_source(
        folder,
        code_suffixes=_CODE,
        pruned=lambda entry: entry.path == own or not _leads_to_modules(entry),
    )
    return tuple(file for file in files if file.suffix in _CODE or file.name in _PROJECT_FILES)


def _leads_to_modules(folder: os.DirEntry[str]) -> bool:
    return folder.name == "src" or os.path.lexists(f"{folder.path}/__init__.py")


def _required_folder(line: Requirement, source: Path) -> LocalPackage | None:
    folder = local_path(line)
    if folder is None or not folder.is_dir() or is_project_itself(line, source):
        return None
    name = string(table(read_toml(folder / "pyproject.toml"), "project"), "name")
    return LocalPackage(name, folder, is_copied=not line.is_editable)
