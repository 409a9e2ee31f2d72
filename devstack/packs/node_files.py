"""Which files make up a Node service: its own, and what it takes from beside and above its folder.

From beside come packages that `node_modules` links to (the members of a workspace, `file:../lib`)
and the folders that a tsconfig names; from above the files that one extends, and of the workspace
the lock file and, for a build, its package.json and .npmrc. Each package's own links and references
count as well. A folder that contains the service is not beside it: of such a one only single files
are taken.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from devstack.packs.digest import is_written_by_programs, merge_files, walk_source, walk_tree
from devstack.packs.node_locks import find_lock
from devstack.packs.node_manifest import GROUPS, read_object
from devstack.packs.toml_tables import Table, string, strings, table, tables

_CODE = (
    ".js",
    ".mjs",
    ".cjs",
    ".ts",
    ".mts",
    ".cts",
    ".tsx",
    ".jsx",
    ".json",
    ".html",
    ".ejs",
    ".pug",
)
_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])')


@dataclass(frozen=True, slots=True)
class ProgramFiles:
    source: Path
    top: Path
    """The nearest folder that contains all of it; the source itself where nothing lies outside."""
    folders: tuple[Path, ...]
    """The source and those beside it that are taken whole."""
    files: tuple[Path, ...]

    def place_in(self, copy: Path) -> Path:
        """Where the source lies in a copy of all."""
        return copy / self.source.relative_to(self.top)


def program_files(source: Path, *, is_built: bool) -> ProgramFiles:
    """A build script may read any file; what runs from the tree may write there."""
    lock = find_lock(source)
    workspace = lock.file.parent if lock is not None else source
    folders = [source]
    single = set[Path]()
    if lock is not None and workspace != source:
        read_by_build = ("package.json", ".npmrc") if is_built else ()
        single = {lock.file, *filter(Path.is_file, map(workspace.joinpath, read_by_build))}
    for folder in folders:  # which grows meanwhile
        for path in (*_linked_packages(folder, workspace), *_named_by_tsconfigs(folder)):
            if any(map(path.is_relative_to, folders)):
                continue
            if path.is_file():
                single.add(path)
            elif path.is_dir() and not source.is_relative_to(path):
                folders.append(path)
    top = os.path.commonpath([*folders, *(file.parent for file in single)])
    if is_built:
        walks = [walk_tree(source), *map(_walk_beside, folders[1:])]
    else:
        walks = [walk_source(folder, code_suffixes=_CODE) for folder in folders]
    return ProgramFiles(source, Path(top), tuple(folders), merge_files(walks, single))


def linked_folder(entry: Path) -> Path | None:
    """The folder that an entry of `node_modules` stands for, where it is no installed package."""
    try:
        folder = Path(os.path.normpath(entry.parent / entry.readlink()))
    except OSError:
        return None  # no link
    return folder if not _is_installed(folder) and folder.is_dir() else None


def _walk_beside(folder: Path) -> tuple[Path, ...]:
    """What a build script may read there. Other services run from this folder, and write there."""
    return tuple(file for file in walk_tree(folder) if not is_written_by_programs(file.name))


def _is_installed(path: Path) -> bool:
    return "node_modules" in path.parts


def _linked_packages(folder: Path, workspace: Path) -> Iterator[Path]:
    """Those of the packages that a folder asks for that are folders themselves."""
    manifest = read_object(folder / "package.json")
    for name in dict.fromkeys(name for group in GROUPS for name in table(manifest, group)):
        own, shared = (place / "node_modules" / name for place in (folder, workspace))
        if (linked := linked_folder(own) or linked_folder(shared)) is not None:
            yield linked


def _named_by_tsconfigs(folder: Path) -> Iterator[Path]:
    """What a folder's tsconfig files name; of those that they extend, what holds for these as well."""
    for config in folder.glob("tsconfig*.json"):
        document = _read_tsconfig(config)
        references = [string(reference, "path") for reference in tables(document, "references")]
        named = [
            *_beside(folder, strings(document, "include")),
            *_beside(folder, strings(document, "files")),
            *map(_folder_of, _beside(folder, references)),
        ]
        bases = [config]
        for base in bases:  # which grows meanwhile
            named += _imported(base)
            bases += (further for further in _extended(base) if further not in bases)
        yield from (path for path in (*named, *bases) if not _is_installed(path))


def _imported(config: Path) -> Iterator[Path]:
    """Where the compiler looks for what is imported, besides packages."""
    options = table(_read_tsconfig(config), "compilerOptions")
    paths = table(options, "paths")
    names = [name for alias in paths for name in strings(paths, alias)]
    yield from map(_folder_of, _beside(config.parent / string(options, "baseUrl"), names))
    yield from _beside(config.parent, strings(options, "typeRoots"))


def _extended(config: Path) -> Iterator[Path]:
    """What it extends by a path; a package that it names is found by its link."""
    document = _read_tsconfig(config)
    names = strings(document, "extends") or (string(document, "extends"),)
    paths = (name for name in names if name.startswith("."))
    return _beside(
        config.parent, (name if name.endswith(".json") else f"{name}.json" for name in paths)
    )


def _beside(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """`../shared` for `../shared/**/*.ts`; nothing for `/usr/share`, which is there for a copy as well."""
    for name in names:
        if not name.startswith("/"):
            start = re.split(r"/?[^/]*[*?]", name, maxsplit=1)[0]
            yield Path(os.path.normpath(folder / start))


def _folder_of(path: Path) -> Path:
    return path.parent if path.is_file() else path


def _read_tsconfig(file: Path) -> Table:
    """Empty where it cannot be read: the compiler tells."""
    return read_object(file, _without_comments)


def _without_comments(text: str) -> str:
    for dropped in (_COMMENT, _TRAILING_COMMA):
        text = dropped.sub(lambda found: found[0] if found[0][0] == '"' else "", text)
    return text
