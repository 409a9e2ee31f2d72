"""Which programs a Go module holds, and which of them a service means. Reads files, runs nothing."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from devstack.packs.base import CannotPrepare

_SKIPPED = frozenset({"vendor", "testdata", "node_modules"})
_PACKAGE = re.compile(r"package\s+(?P<name>[^\W\d]\w*)")
_IGNORED_BUILD = re.compile(r"^//go:build\s+(?:ignore|tools)\b", re.MULTILINE)
_DIRECTIVE = re.compile(r"^\s*(?P<word>module|go|toolchain)\s+(?P<value>\S+)", re.MULTILINE)
_LOCAL_REPLACE = re.compile(r"=>\s*(?P<path>\.{1,2}/\S*|/\S+)")
_WORK_USE = re.compile(r"^\s*(?:use\s+)?(?P<path>\.{1,2}(?:/\S*)?)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Module:
    """What `go.mod` says."""

    root: Path
    path: str
    go_version: str
    """The lowest version that may build it; "" when not said."""
    local: tuple[Path, ...]
    """Folders outside the module that `replace` takes sources from."""


def find_module(source: Path) -> Module | None:
    """The module that the folder belongs to: its own `go.mod` or the nearest one above."""
    for folder in (source, *source.parents):
        if (folder / "go.mod").is_file():
            return _read_module(folder)
        if (folder / ".git").exists():
            return None
    return None


def program_of_module_above(source: Path) -> Path | None:
    """A file of a `package main` in the folder or its `cmd`, where the module is one above it."""
    module = find_module(source)
    if module is None or module.root == source:
        return None
    folders = (source, source / "cmd", *sorted(source.glob("cmd/*/")))
    files = (file for folder in folders for file in sorted(folder.glob("*.go")))
    return next((file for file in files if _is_main(file)), None)


def choose_main(module: Module, source: Path, wanted: str | None, service: str) -> Path:
    """The folder of the program that the service means.

    The one named; else the only one below `source`; else the one in `source` itself; else the one
    whose folder has the service's name. Everything else is a question for the user.
    """
    mains = find_mains(source)
    names = ", ".join(_display(main, source) for main in mains)
    if wanted is not None:
        return _named_main(module, source, wanted, mains)
    if not mains:
        raise CannotPrepare(
            f"cannot build {service}: no `package main` below {source}",
            "name a folder that holds a program as `source`",
        )
    if len(mains) == 1:
        return mains[0]
    if source in mains:
        return source
    same_name = [main for main in mains if main.name == service]
    if len(same_name) == 1:
        return same_name[0]
    raise CannotPrepare(
        f"cannot build {service}: {len(mains)} programs in {source}: {names}",
        f"say which one, such as `main: {_display(mains[0], source)}`",
    )


def find_mains(source: Path) -> tuple[Path, ...]:
    """Every folder below that holds a `package main`; nested modules are not entered."""
    found: list[Path] = []
    for folder, folders, files in os.walk(source):
        here = Path(folder)
        if here != source and "go.mod" in files:
            folders.clear()
            continue
        folders[:] = sorted(
            name for name in folders if name not in _SKIPPED and not name.startswith((".", "_"))
        )
        if any(_is_main(here / name) for name in sorted(files)):
            found.append(here)
    return tuple(found)


def workspace_file(module: Module) -> Path | None:
    """The `go.work` at or above the module."""
    for folder in (module.root, *module.root.parents):
        if (folder / "go.work").is_file():
            return folder / "go.work"
        if (folder / ".git").exists():
            return None
    return None


def workspace_folders(module: Module) -> tuple[Path, ...]:
    """Other modules that the workspace takes sources from."""
    work = workspace_file(module)
    if work is None:
        return ()
    text = _without_comments(work.read_text(encoding="utf-8", errors="replace"))
    used = (work.parent / match["path"] for match in _WORK_USE.finditer(text))
    return tuple(Path(os.path.normpath(path)) for path in used)


def _named_main(module: Module, source: Path, wanted: str, mains: tuple[Path, ...]) -> Path:
    if wanted == module.path or wanted.startswith(module.path + "/"):
        candidate = module.root / wanted[len(module.path) :].lstrip("/")
    else:
        candidate = source / wanted
    candidate = Path(os.path.normpath(candidate))
    if candidate.suffix == ".go":
        candidate = candidate.parent
    if candidate in mains:
        return candidate
    by_name = [main for main in mains if main.name == wanted]
    if len(by_name) == 1:
        return by_name[0]
    if candidate.is_relative_to(module.root) and candidate in find_mains(module.root):
        return candidate
    names = ", ".join(_display(main, source) for main in mains) or "none"
    raise CannotPrepare(
        f"cannot build {wanted}: no `package main` there; programs in {source}: {names}",
        "correct `main` in the stack file",
    )


def _is_main(file: Path) -> bool:
    if file.suffix != ".go" or file.name.endswith("_test.go") or file.name.startswith(("_", ".")):
        return False
    try:
        head = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    if _IGNORED_BUILD.search(head):
        return False
    match = _PACKAGE.match(_after_comments(head))
    return match is not None and match["name"] == "main"


def _after_comments(text: str) -> str:
    position = 0
    while True:
        rest = text[position:].lstrip("\ufeff \t\r\n")
        if rest.startswith("//"):
            rest = rest.partition("\n")[2]
        elif rest.startswith("/*"):
            rest = rest.partition("*/")[2]
        else:
            return rest
        position = len(text) - len(rest)


def _read_module(root: Path) -> Module:
    text = _without_comments((root / "go.mod").read_text(encoding="utf-8", errors="replace"))
    said: dict[str, str] = {}
    for match in _DIRECTIVE.finditer(text):
        said.setdefault(match["word"], match["value"].strip('"'))
    replaced = (root / match["path"].strip('"') for match in _LOCAL_REPLACE.finditer(text))
    return Module(
        root=root,
        path=said.get("module", ""),
        go_version=said.get("go", ""),
        local=tuple(Path(os.path.normpath(path)) for path in replaced),
    )


def _without_comments(text: str) -> str:
    return "\n".join(line.partition("//")[0] for line in text.splitlines())


def _display(main: Path, source: Path) -> str:
    return "." if main == source else f"./{main.relative_to(source)}"
