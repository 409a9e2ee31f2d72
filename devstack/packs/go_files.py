"""Which files make up a Go program: what `go build` reads, and what people call its source.

Go compiles whatever lies in a package's folder and builds in what `//go:embed` names, whoever
ignores it and whatever it is called, so neither `.gitignore` nor a list of names decides here.
Other files (templates read at run time) count as for any source.
"""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from devstack.packs.digest import walk_source, walk_tree
from devstack.packs.go_mains import Module, find_module, workspace_file, workspace_folders

_COMPILED = (
    ".go", ".s", ".S", ".sx", ".c", ".cc", ".cpp", ".cxx", ".m", ".mm", ".h", ".hh", ".hpp", ".hxx",
    ".f", ".F", ".for", ".f90", ".swig", ".swigcxx", ".syso",
)  # fmt: skip
_READ_BY_NAME = frozenset({"go.mod", "go.sum", "modules.txt", "default.pgo"})
_EMBED = re.compile(rb"^//go:embed[ \t]+(?P<patterns>[^\r\n]+)", re.MULTILINE)
_PATTERN = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|`(?P<raw>[^`]*)`|(?P<bare>\S+)')


def program_files(source: Path) -> tuple[Path, ...]:
    """The files that may change what a program below `source` is or does; no tests."""
    module = find_module(source)
    found: set[Path] = set()
    for root in _roots(source, module):
        found.update(walk_source(root, code_suffixes=()))
        for file in walk_tree(root):
            if file.name in _READ_BY_NAME or file.suffix in _COMPILED:
                found.add(file)
                found.update(_embedded(file))
    if module is not None and (workspace := workspace_file(module)) is not None:
        sums = workspace.with_name("go.work.sum")
        found.update(file for file in (workspace, sums) if file.is_file())
    return tuple(sorted(file for file in found if not file.name.endswith("_test.go")))


def _roots(source: Path, module: Module | None) -> Iterator[Path]:
    """The folders that sources are taken from, none of them inside another."""
    if module is None:
        yield source
        return
    roots = {module.root, source, *module.local, *workspace_folders(module)}
    for root in sorted(roots):
        if not any(root != other and root.is_relative_to(other) for other in roots):
            yield root


def _embedded(file: Path) -> Iterator[Path]:
    """What a Go file builds into the binary, a folder with what lies below it."""
    if file.suffix != ".go" or file.name.endswith("_test.go"):
        return
    try:
        text = file.read_bytes()
    except OSError:
        return  # removed while we looked
    if b"//go:embed" not in text:
        return
    for directive in _EMBED.finditer(text):
        for match in _PATTERN.finditer(directive["patterns"].decode("utf-8", "replace")):
            pattern = match["quoted"] or match["raw"] or match["bare"] or ""
            yield from _matching(file.parent, pattern.removeprefix("all:"))


def _matching(folder: Path, pattern: str) -> Iterator[Path]:
    names = glob.iglob(pattern.replace("[^", "[!"), root_dir=folder, include_hidden=True)  # noqa: PTH207 - Path.glob raises for patterns that Go refuses
    for name in names:
        path = folder / name
        if path.is_file():
            yield path
        elif path.is_dir():
            # hidden files too, which Go takes with `all:` alone: one too many costs a rebuild
            for below, _, files in os.walk(path):
                yield from (Path(below, inner) for inner in files)
