"""The lock file that fixes a Node folder's packages, and whether a `node_modules` fits it.

The lock file lies in the folder, or in the root of the workspace that the folder belongs to.
Reads files, runs nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devstack.packs.ignore import IgnoreRules
from devstack.packs.node_manifest import read_object
from devstack.packs.toml_tables import string, strings, table

Manager = Literal["npm", "pnpm", "yarn", "bun"]

_LOCKS: Mapping[str, Manager] = {
    "npm-shrinkwrap.json": "npm",
    "package-lock.json": "npm",
    "pnpm-lock.yaml": "pnpm",
    "yarn.lock": "yarn",
    "bun.lock": "bun",
    "bun.lockb": "bun",
}
_NODE_LINKER = re.compile(r"^nodeLinker:\s*['\"]?(?:node-modules|pnpm)\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Lock:
    file: Path
    manager: Manager

    @property
    def is_comparable(self) -> bool:
        """Whether `node_modules` can be held against it; yarn 2 and bun leave nothing to compare."""
        return self.manager in {"npm", "pnpm"} or (self.manager == "yarn" and not self.is_yarn_2)

    @property
    def is_yarn_2(self) -> bool:
        return self.manager == "yarn" and "__metadata:" in _text(self.file)[:4096]

    @property
    def install(self) -> str:
        """What makes the `node_modules` that it describes."""
        if self.is_yarn_2 and not _links_node_modules(self.file.parent):
            return "write `nodeLinker: node-modules` into .yarnrc.yml and run `yarn install`"
        return "run `npm ci`" if self.manager == "npm" else f"run `{self.manager} install`"


def find_lock(source: Path) -> Lock | None:
    """The folder's own lock file, else that of the workspace above that it is a member of."""
    for folder in (source, *source.parents):
        for name, manager in _LOCKS.items():
            lock = Lock(folder / name, manager)
            if lock.file.is_file() and (folder == source or _is_member(source, lock)):
                return lock
        if (folder / ".git").exists():
            return None
    return None


def _is_member(source: Path, lock: Lock) -> bool:
    root = lock.file.parent
    path = source.relative_to(root).as_posix()
    match lock.manager:
        case "npm":
            return path in table(read_object(lock.file), "packages")
        case "pnpm":
            importer = rf"^  (['\"]?){re.escape(path)}\1:"
            return re.search(importer, _text(lock.file), re.MULTILINE) is not None
        case "yarn" | "bun":
            document = read_object(root / "package.json")
            patterns = strings(document, "workspaces")
            patterns = patterns or strings(table(document, "workspaces"), "packages")
            rules = IgnoreRules.parse("\n".join(map(_anchored, patterns)))
            return rules.verdict(path, is_folder=True) is True


def _anchored(pattern: str) -> str:
    is_negated = pattern.startswith("!")
    path = pattern.removeprefix("!").removeprefix("./").strip("/")
    return f"!/{path}" if is_negated else f"/{path}"


def _links_node_modules(root: Path) -> bool:
    """yarn 2 makes no `node_modules` unless it is asked to."""
    return _NODE_LINKER.search(_text(root / ".yarnrc.yml")) is not None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def why_not_fitting(modules: Path, lock: Lock) -> str | None:
    """Why a `node_modules` of the user's does not fit the lock file; None: it fits, or cannot be compared."""
    match lock.manager:
        case "npm":
            return _why_not_npm(modules, lock.file)
        case "pnpm":
            installed = modules / ".pnpm" / "lock.yaml"
            return _unless_same(installed, lock.file)
        case "yarn" if lock.is_comparable:
            return _why_not_yarn(modules, lock.file)
        case "yarn" | "bun":
            return None


def _why_not_npm(modules: Path, lock: Path) -> str | None:
    installed = table(read_object(modules / ".package-lock.json"), "packages")
    if not installed:
        return "it was not made by npm 7 or newer"
    locked = table(read_object(lock), "packages")
    for path in locked:
        entry = table(locked, path)
        if not path.startswith("node_modules/"):
            continue
        have = table(installed, path)
        name = path.removeprefix("node_modules/")
        if not have:
            if entry.get("dev") or entry.get("optional") or entry.get("devOptional"):
                continue  # left out on purpose, or not for this platform
            return f"{name} is not installed"
        if have.get("version") != entry.get("version"):
            return f"{name} is {string(have, 'version')}, locked {string(entry, 'version')}"
        if string(have, "integrity") != string(entry, "integrity") and string(have, "integrity"):
            return f"{name} has other contents than the locked one"
        if not (modules / name / "package.json").is_file():
            return f"{name} is not there"
    return None


def _why_not_yarn(modules: Path, lock: Path) -> str | None:
    installed = table(read_object(modules / ".yarn-integrity"), "lockfileEntries")
    if not installed:
        return "it was not made by yarn 1"
    text = lock.read_text(encoding="utf-8", errors="replace")
    locked = {
        pattern.strip().strip('"')
        for line in text.splitlines()
        if line.endswith(":") and line[0] not in " #"
        for pattern in line[:-1].split(",")
    }
    return None if locked == set(installed) else "it was made for another yarn.lock"


def _unless_same(one: Path, other: Path) -> str | None:
    try:
        is_same = one.read_bytes() == other.read_bytes()
    except OSError:
        return f"it has no {one.name} to compare with"
    return None if is_same else f"it was made for another {other.name}"
