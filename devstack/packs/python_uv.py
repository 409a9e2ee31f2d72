"""What uv's files say of folders: which workspace one is a member of, and which it takes packages from."""

import os
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from devstack.packs.ignore import IgnoreRules
from devstack.packs.toml_tables import Table, read_toml, string, strings, table, tables

_IS_FOLDER = re.compile(r"^source = \{ (?:editable|directory|virtual) = ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LocalPackage:
    """A package that is a folder of the user's: another member of the workspace, a path source."""

    name: str
    """Empty where it is not told."""
    folder: Path
    is_copied: bool
    """What is installed is a copy, which no edit changes; else the folder itself is imported."""


def uv_workspace(source: Path) -> Path | None:
    """The root above whose `uv.lock` fixes the packages of this member."""
    if not (source / "pyproject.toml").is_file() or (source / "uv.lock").is_file():
        return None
    for folder in source.parents:
        if (folder / "uv.lock").is_file():
            asked = table(read_toml(folder / "pyproject.toml"), "tool", "uv", "workspace")
            path = source.relative_to(folder).as_posix()
            is_member = _names_folder(strings(asked, "members"), path)
            if is_member and not _names_folder(strings(asked, "exclude"), path):
                return folder
        if (folder / ".git").exists():
            return None
    return None


def locked_packages(lock: Path, source: Path) -> tuple[LocalPackage, ...]:
    """The folders that a project's packages are taken from, by its lock file; not its own."""
    try:
        info = lock.stat()
        entries = _folder_entries(lock, info.st_mtime_ns, info.st_size)
    except (OSError, ValueError):
        return ()  # uv tells the mistake
    places = {name: _place(entry, lock) for name, entry in entries.items()}
    names = [name for name, place in places.items() if place == source]
    own = len(names)
    for name in names:  # which grows meanwhile
        needed = (string(need, "name") for need in _needs(entries[name]))
        names += (need for need in needed if need in entries and need not in names)
    return tuple(
        LocalPackage(name, places[name], "directory" in table(entries[name], "source"))
        for name in names[own:]
    )


def path_sources(folder: Path) -> tuple[LocalPackage, ...]:
    """The folders that a project's `tool.uv.sources` names, which are believed without a lock file."""
    sources = table(read_toml(folder / "pyproject.toml"), "tool", "uv", "sources")
    named = [
        (name, Path(os.path.normpath(folder / path)), entry.get("editable") is True)
        for name in sources
        for entry in (table(sources, name), *tables(sources, name))
        if (path := string(entry, "path"))
    ]
    return tuple(
        LocalPackage(name, place, not is_editable)
        for name, place, is_editable in named
        if place.is_dir()
    )


@lru_cache(maxsize=32)
def _folder_entries(lock: Path, _mtime_ns: int, _size: int) -> dict[str, Table]:
    """The few packages of the lock file that are folders; reading all others takes 25 times as long.

    Kept while the file is the same: it is asked for at each look at the source.
    """
    _, *sections = lock.read_text(encoding="utf-8").split("\n[[package]]\n")
    entries = [tomllib.loads(section) for section in sections if _IS_FOLDER.search(section)]
    return {string(entry, "name"): entry for entry in entries}


def _place(entry: Table, lock: Path) -> Path:
    (path, *_) = map(str, table(entry, "source").values())
    return Path(os.path.normpath(lock.parent / path))


def _needs(entry: Table) -> list[Table]:
    """Those of extras and groups too, asked for or not: one too many costs a restart."""
    parts = [
        table(entry, "package", part) for part in ("optional-dependencies", "dev-dependencies")
    ]
    return [
        *tables(entry, "dependencies"),
        *(need for part in parts for name in part for need in tables(part, name)),
    ]


def _names_folder(patterns: tuple[str, ...], path: str) -> bool:
    anchored = (f"/{pattern.removeprefix('./').strip('/')}" for pattern in patterns)
    return IgnoreRules.parse("\n".join(anchored)).verdict(path, is_folder=True) is True
