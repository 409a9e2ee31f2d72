"""Which program starts a Node service: its start script without npm around it, so that the pid is
the server's, or the file that Node itself would run."""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devstack.packs.node_manifest import PackageJson, read_package_json
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
_WATCHES = frozenset({"--watch", "--watch-path", "--watch-preserve-output"})
_TAKE_VALUE = frozenset(
    {
        "-r", "--require", "--import", "--loader", "--experimental-loader", "--env-file",
        "--env-file-if-exists", "-C", "--conditions", "--title", "--watch-path", "--input-type",
        "--experimental-default-type", "--stack-trace-limit", "--diagnostic-dir", "--icu-data-dir",
        "--disable-warning", "--redirect-warnings", "--unhandled-rejections", "--dns-result-order",
        "--max-http-header-size", "--openssl-config", "--tls-cipher-list", "--tls-keylog",
        "--network-family-autoselection-attempt-timeout", "--report-dir", "--report-directory",
        "--report-filename", "--report-signal", "--heapsnapshot-near-heap-limit",
        "--heapsnapshot-signal", "--heap-prof-dir", "--heap-prof-interval", "--heap-prof-name",
        "--cpu-prof-dir", "--cpu-prof-interval", "--cpu-prof-name", "--trace-event-categories",
        "--trace-event-file-pattern", "--secure-heap", "--secure-heap-min", "--v8-pool-size",
        "--localstorage-file", "--inspect-port", "--debug-port", "--inspect-publish-uid",
        "--disable-proto", "--allow-fs-read", "--allow-fs-write", "--snapshot-blob",
        "--use-largepages",
    }
)  # fmt: skip
"""Options of node whose value may be the next word, which is then no file."""
_ARE_CODE = frozenset({"-e", "--eval", "-p", "--print", "-pe"})
_SETS_PORT = re.compile(r"(?:^|[\s;&|(])PORT=")
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
        return _from_script(source, text, package.scripts, "scripts.start", 0)
    entry = string(package.document, "main")
    if entry and (found := _existing(source, entry)):
        return Start("node", (found,), file=found, said_by="main of package.json")
    for name in _FILES:
        if (source / name).is_file():
            return Start("node", (name,), file=name, said_by=name)
    if entry and "build" in package.scripts:
        return Start("node", (entry,), file=entry, said_by="main of package.json")
    return None


def _from_script(
    source: Path, text: str, scripts: Mapping[str, str], said_by: str, depth: int
) -> Start:
    if _NEEDS_SHELL.search(text):
        return _in_shell(text, said_by)
    try:
        words = shlex.split(text)
    except ValueError:
        return _in_shell(text, said_by)
    environment: dict[str, str] = {}
    while words and (words[0] == "cross-env" or _ASSIGNMENT.fullmatch(words[0])):
        name, equals, value = words.pop(0).partition("=")
        if equals:
            environment[name] = value
    if not words:
        return _in_shell(text, said_by)
    if tuple(words[:2]) in _RUN_SCRIPT and len(words) == 3 and depth < _DEEPEST:
        inner = scripts.get(words[2])
        if inner is not None:
            found = _from_script(source, inner, scripts, f"scripts.{words[2]}", depth + 1)
            merged = {**environment, **found.environment}
            return Start(found.kind, found.words, merged, found.file, said_by, found.notes)
    if words[0] in _RELOADERS and len(words) == 2:
        note = f"{words[0]} is left out: devstack replaces replicas itself"
        return Start("node", (words[1],), environment, words[1], said_by, (note,))
    if words[0] == "node":
        kept = _without_watching(tuple(words[1:]))
        notes = (
            ()
            if len(kept) == len(words) - 1
            else ("--watch is left out: devstack replaces replicas itself",)
        )
        return Start("node", kept, environment, _file_of(source, kept), said_by, notes)
    return Start("program", tuple(words), environment, said_by=said_by)


def _in_shell(text: str, said_by: str) -> Start:
    notes = (
        (f"{said_by} sets PORT itself: the service may listen where nobody asks",)
        if _SETS_PORT.search(text)
        else ()
    )
    return Start("shell", (text,), said_by=said_by, notes=notes)


def _without_watching(words: tuple[str, ...]) -> tuple[str, ...]:
    kept: list[str] = []
    is_value = False
    for word in words:
        name, equals, _ = word.partition("=")
        if not is_value and name not in _WATCHES:
            kept.append(word)
        is_value = not is_value and name == "--watch-path" and not equals
    return tuple(kept)


def _file_of(source: Path, words: tuple[str, ...]) -> str:
    is_value = False
    for word in words:
        if is_value:
            is_value = False
        elif word in _ARE_CODE:
            return ""
        elif word in _TAKE_VALUE:
            is_value = True
        elif not word.startswith("-"):
            return _program_file(source, word)
    return ""


def _program_file(source: Path, word: str) -> str:
    """What `node WORD` runs: for a folder, `main` of its package.json or its index."""
    folder = source / word
    if not folder.is_dir():
        return word
    entry = string(read_package_json(folder).document, "main") or "index.js"
    place = os.path.normpath(os.path.join(word, entry))  # noqa: PTH118 - Path would not keep `..`
    return _existing(source, place) or place


def _existing(source: Path, entry: str) -> str | None:
    """As Node resolves `main`: a file, a file without its suffix, or a folder with an index."""
    for candidate in (entry, f"{entry}.js", f"{entry}/index.js"):
        if (source / candidate).is_file():
            return candidate.removeprefix("./")
    return None
