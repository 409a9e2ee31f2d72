"""Which files make up a Python service: its own, its manifest's, and those of packages beside it."""

from collections.abc import Iterator
from pathlib import Path

from devstack.packs.base import CannotPrepare
from devstack.packs.digest import walk_source
from devstack.packs.python_manifest import Manifest, find_manifest, local_path, read_requirements
from devstack.packs.python_uv import local_packages

_CODE = (".py", ".pyi", ".pyx", ".html", ".jinja", ".j2", ".sql")


def program_files(source: Path) -> tuple[Path, ...]:
    """The files that may change what a service is or does."""
    found = set(folder_files(source))
    try:
        manifest = find_manifest(source)
        found.update(file for file in manifest.files if not file.is_relative_to(source))
        for folder in _package_folders(manifest, source):
            found.update(folder_files(folder))
    except CannotPrepare:
        pass  # preparing it tells the mistake
    return tuple(sorted(found))


def folder_files(folder: Path) -> tuple[Path, ...]:
    """The files of one folder."""
    return walk_source(folder, code_suffixes=_CODE)


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
