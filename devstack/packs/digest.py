"""Which files make up a source, and the one hash that changes when any of them does.

Counted are all files below the folder except: dependency, cache and build folders by name; what
the `.gitignore` files inside the tree name, unless it is code of the pack's language (generated
code is code); and files that running programs write (logs, databases, sockets). So a service that
writes next to its code does not look edited, and generated code that is not checked in does.

What a compiler or a build script reads is another question, which no list of names answers:
`walk_tree` has every file.
"""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from devstack.packs.base import Pack
from devstack.packs.ignore import IgnoreRules

PRUNED_FOLDERS = frozenset(
    {
        ".devstack", ".git", ".hg", ".svn", ".idea", ".vscode", ".cache", ".next", ".nuxt",
        ".mypy_cache", ".nox", ".parcel-cache", ".pytest_cache", ".ruff_cache", ".tox", ".turbo",
        ".venv", "__pycache__", "bower_components", "coverage", "htmlcov", "node_modules", "venv",
    }
)  # fmt: skip
PRUNED_SUFFIXES = (
    ".db", ".db-journal", ".db-shm", ".db-wal", ".log", ".pid", ".pyc", ".pyo", ".rdb", ".sock",
    ".sqlite", ".sqlite-journal", ".sqlite3", ".sqlite3-journal", ".swo", ".swp", ".tmp", "~",
)  # fmt: skip
PRUNED_FILES = frozenset({".DS_Store", "4913", ".coverage"})

_BROUGHT = frozenset({".devstack", ".git", ".hg", ".svn", "node_modules"})

RACY_SECONDS = 2.0
"""A file changed this shortly before it was hashed may change again within one clock tick."""


def walk_source(
    source: Path,
    *,
    code_suffixes: tuple[str, ...],
    pruned: Callable[[os.DirEntry[str]], bool] = lambda _: False,
) -> tuple[Path, ...]:
    """The files that belong to a source, sorted; symbolic links to folders are not entered."""
    found: list[str] = []
    root = os.fspath(source)
    pending: list[tuple[str, tuple[tuple[str, IgnoreRules], ...], bool]] = [(root, (), False)]
    while pending:
        folder, rules, is_ignored = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue  # removed while we looked, or not ours to read: then it is no source either
        if any(entry.name == ".gitignore" for entry in entries):
            rules = (*rules, (folder, IgnoreRules.read(Path(folder))))
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if _is_never_source(entry, is_folder=is_folder) or (is_folder and pruned(entry)):
                continue
            ignored = _is_ignored(entry.path, rules, is_folder=is_folder, inherited=is_ignored)
            if is_folder:
                pending.append((entry.path, rules, ignored))
            elif not ignored or entry.name.endswith(code_suffixes):
                found.append(entry.path)
    found.sort()
    return tuple(Path(path) for path in found)


def walk_tree(source: Path) -> tuple[Path, ...]:
    """Every file below the folder, whoever ignores it, sorted.

    Left out is only what was brought there (packages, virtual environments), version control's
    and devstack's own folder, links to these, and what is no file (sockets, pipes).
    """
    found: list[str] = []
    pending = [os.fspath(source)]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue  # as in walk_source
        for entry in entries:
            if entry.name in _BROUGHT:
                continue
            if entry.is_dir(follow_symlinks=False):
                if not _is_venv(entry):
                    pending.append(entry.path)
            elif entry.is_symlink() or entry.is_file():
                found.append(entry.path)
    found.sort()
    return tuple(Path(path) for path in found)


def merge_files(walks: Sequence[tuple[Path, ...]], others: Collection[Path]) -> tuple[Path, ...]:
    """The files of all walks and others, sorted, each once; one walk alone is that already."""
    if len(walks) == 1 and not others:
        return walks[0]
    return tuple(sorted({*others, *chain.from_iterable(walks)}, key=os.fspath))


def is_written_by_programs(name: str) -> bool:
    """Logs, databases, sockets, and what editors leave, by the name of the file."""
    return name in PRUNED_FILES or name.endswith(PRUNED_SUFFIXES)


@dataclass(slots=True)
class DigestCache:
    """Remembers the hash of each file by its stat, so that an unchanged tree costs stats only."""

    known: dict[str, tuple[tuple[int, ...], bytes]]

    @classmethod
    def empty(cls) -> "DigestCache":
        return cls({})


def digest_files(root: Path, files: Iterable[Path], cache: DigestCache | None = None) -> str:
    """A hash of names, executable bits and contents; files that vanished meanwhile are left out."""
    total = hashlib.sha256()
    base = os.fspath(root)
    now = time.time()
    for file in files:
        path = os.fspath(file)
        content = _file_digest(path, now, cache)
        if content is not None:
            total.update(os.fsencode(os.path.relpath(path, base)) + b"\0" + content)
    return total.hexdigest()


def source_digest(pack: Pack, source: Path, cache: DigestCache | None = None) -> str:
    """The hash of a source as its pack sees it."""
    return digest_files(source, pack.source_files(source), cache)


def digest_values(*values: str) -> str:
    """A short hash of texts, for the name of an artifact."""
    joined = b"".join(len(value).to_bytes(8, "big") + os.fsencode(value) for value in values)
    return hashlib.sha256(joined).hexdigest()[:24]


def digest_of_contents(files: Iterable[Path]) -> str:
    """A hash of file names and contents wherever they lie, so that checkouts share artifacts."""
    parts: list[str] = []
    for file in files:
        try:
            parts += [file.name, hashlib.sha256(file.read_bytes()).hexdigest()]
        except FileNotFoundError:
            parts += [file.name, "absent"]
    return digest_values(*parts)


def _file_digest(path: str, now: float, cache: DigestCache | None) -> bytes | None:
    try:
        info = os.stat(path)  # noqa: PTH116 - strings are faster, files are many
        is_readable_kind = stat.S_ISREG(info.st_mode)
    except OSError:
        return _link_digest(path)
    if not is_readable_kind:
        return _link_digest(path)
    mark = (info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino, info.st_mode & 0o100)
    if cache is not None and (entry := cache.known.get(path)) and entry[0] == mark:
        return entry[1]
    try:
        with Path(path).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
    content += b"x" if info.st_mode & 0o100 else b"-"
    if cache is not None and now - max(info.st_mtime, info.st_ctime) > RACY_SECONDS:
        cache.known[path] = (mark, content)
    return content


def _link_digest(path: str) -> bytes | None:
    """A link to a folder or to nothing counts by where it points; sockets and the like do not."""
    try:
        return hashlib.sha256(os.fsencode(Path(path).readlink())).digest()
    except OSError:
        return None


def _is_never_source(entry: os.DirEntry[str], *, is_folder: bool) -> bool:
    if is_folder:
        return entry.name in PRUNED_FOLDERS or entry.name.endswith(".egg-info") or _is_venv(entry)
    return is_written_by_programs(entry.name)


def _is_venv(entry: os.DirEntry[str]) -> bool:
    """A virtual environment by another name."""
    return os.path.lexists(f"{entry.path}/pyvenv.cfg")


def _is_ignored(
    path: str,
    rules: tuple[tuple[str, IgnoreRules], ...],
    *,
    is_folder: bool,
    inherited: bool,
) -> bool:
    if inherited:
        return True  # as in git: what lies in an ignored folder cannot be taken back
    for folder, folder_rules in reversed(rules):
        verdict = folder_rules.verdict(os.path.relpath(path, folder), is_folder=is_folder)
        if verdict is not None:
            return verdict
    return False
