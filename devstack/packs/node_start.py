"""Which program starts a Node service: its start script without npm around it, so that the pid is
the server's, or the file that Node itself would run."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devstack.packs.node_manifest import PackageJson
from devstack.packs.toml_tables import string

_FILES = tuple(
    folder + stem + suffix
    for folder in ("", "src/")
    for stem in ("server", "index", "app", "main")
    for suffix in (".js", ".mjs", ".cjs")
)
_NEEDS_SHELL = re.compile(r"[|&;<>()$`*?~\n\\]")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_RUN_SCRIPT = {("npm", "run"), ("npm", "run-script"), ("yarn", "run"), ("pnpm", "run")}
_RELOADERS = frozenset({"nodemon", "node-dev", "supervisor"})
_WATCHES = re.compile(r"^--watch(?:-path(?:=.*)?|-preserve-output)?$")
_TAKE_VALUE = frozenset(
    {
        "-r",
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "--env-file",
        "-C",
        "--conditions",
    }
)
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Start:
    """How the service is started, before folders are known."""

    kind: str
    """`node`: arguments for node; `program`: a program of node_modules/.bin or PATH; `shell`: text."""
    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    """The file that node runs, relative to the folder; "" where that is not known."""
    said_by: str = ""
    notes: tuple[str, ...] = ()


def find_start(source: Path, package: PackageJson, main: str | None) -> Start | None:
    """The file that was named, the start script, `main`, or a file with a usual name."""
    if main is not None:
        return Start("node", (main,), file=main, said_by="main")
    text = package.scripts.get("start")
    if text is not None and text.strip():
        return _from_script(text, package.scripts, "scripts.start", 0)
    entry = string(package.document, "main")
    if entry and (found := _existing(source, entry)):
        return Start("node", (found,), file=found, said_by="main of package.json")
    for name in _FILES:
        if (source / name).is_file():
            return Start("node", (name,), file=name, said_by=name)
    if entry and "build" in package.scripts:
        return Start("node", (entry,), file=entry, said_by="main of package.json")
    return None


def _from_script(text: str, scripts: Mapping[str, str], said_by: str, depth: int) -> Start:
    if _NEEDS_SHELL.search(text):
        return Start("shell", (text,), said_by=said_by)
    try:
        words = shlex.split(text)
    except ValueError:
        return Start("shell", (text,), said_by=said_by)
    environment: dict[str, str] = {}
    while words and (words[0] == "cross-env" or _ASSIGNMENT.fullmatch(words[0])):
        name, equals, value = words.pop(0).partition("=")
        if equals:
            environment[name] = value
    if not words:
        return Start("shell", (text,), said_by=said_by)
    if tuple(words[:2]) in _RUN_SCRIPT and len(words) == 3 and depth < _DEEPEST:
        inner = scripts.get(words[2])
        if inner is not None:
            found = _from_script(inner, scripts, f"scripts.{words[2]}", depth + 1)
            merged = {**environment, **found.environment}
            return Start(found.kind, found.words, merged, found.file, said_by, found.notes)
    if words[0] in _RELOADERS and len(words) == 2:
        note = f"{words[0]} is left out: devstack replaces replicas itself"
        return Start("node", (words[1],), environment, words[1], said_by, (note,))
    if words[0] == "node":
        kept = tuple(word for word in words[1:] if not _WATCHES.match(word))
        notes = (
            ()
            if len(kept) == len(words) - 1
            else ("--watch is left out: devstack replaces replicas itself",)
        )
        return Start("node", kept, environment, _file_of(kept), said_by, notes)
    return Start("program", tuple(words), environment, said_by=said_by)


def _file_of(words: tuple[str, ...]) -> str:
    is_value = False
    for word in words:
        if is_value:
            is_value = False
        elif word in _TAKE_VALUE:
            is_value = True
        elif not word.startswith("-"):
            return word
    return ""


def _existing(source: Path, entry: str) -> str | None:
    """As Node resolves `main`: a file, a file without its suffix, or a folder with an index."""
    for candidate in (entry, f"{entry}.js", f"{entry}/index.js"):
        if (source / candidate).is_file():
            return candidate.removeprefix("./")
    return None
