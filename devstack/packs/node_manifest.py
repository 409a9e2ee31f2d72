"""What a Node folder says: its scripts, its packages, its lock file, and whether `node_modules` fits.

Reads files, runs nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devstack.packs.base import CannotPrepare
from devstack.packs.toml_tables import Table, string, table

NPM_LOCKS = ("npm-shrinkwrap.json", "package-lock.json")
_OTHER_LOCKS: Mapping[str, Literal["pnpm", "yarn", "bun"]] = {
    "pnpm-lock.yaml": "pnpm",
    "yarn.lock": "yarn",
    "bun.lock": "bun",
    "bun.lockb": "bun",
}

_GROUPS = ("dependencies", "devDependencies", "optionalDependencies")


@dataclass(frozen=True, slots=True)
class PackageJson:
    file: Path
    document: Table

    @property
    def scripts(self) -> Mapping[str, str]:
        scripts = table(self.document, "scripts")
        return {name: text for name, text in scripts.items() if isinstance(text, str)}

    @property
    def has_packages(self) -> bool:
        return any(table(self.document, group) for group in _GROUPS)

    @property
    def engines(self) -> str:
        return string(table(self.document, "engines"), "node")


@dataclass(frozen=True, slots=True)
class Lock:
    file: Path
    manager: Literal["npm", "pnpm", "yarn", "bun"]


def read_package_json(source: Path) -> PackageJson:
    file = source / "package.json"
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return PackageJson(file, {})
    except json.JSONDecodeError as error:
        raise CannotPrepare(
            f"cannot read {file}:{error.lineno}:{error.colno}: {error.msg}", "correct that line"
        ) from error
    except UnicodeDecodeError as error:
        raise CannotPrepare(f"cannot read {file}: {error}", "write it as UTF-8") from error
    if not isinstance(document, Mapping):
        raise CannotPrepare(f"cannot read {file}: it is not an object", "see `npm init`")
    return PackageJson(file, document)


def find_lock(source: Path) -> Lock | None:
    for name in NPM_LOCKS:
        if (source / name).is_file():
            return Lock(source / name, "npm")
    for name, manager in _OTHER_LOCKS.items():
        if (source / name).is_file():
            return Lock(source / name, manager)
    return None


def workspace_root(source: Path) -> Path | None:
    """The folder above whose `workspaces` this package belongs to, by its lock file."""
    for folder in source.parents:
        for name in NPM_LOCKS:
            lock = _read(folder / name)
            if str(source.relative_to(folder)) in table(lock, "packages"):
                return folder
        if (folder / ".git").exists():
            return None
    return None


def why_outdated(lock: Path, package: PackageJson) -> str | None:
    """How an npm lock file differs from what package.json asks for; npm's own answer is longer."""
    entries = table(_read(lock), "packages")
    if "" not in entries:
        return None  # of npm 6 or older: npm tells
    root = table(entries, "")
    for group in _GROUPS:
        asked, locked = table(package.document, group), table(root, group)
        for name in sorted({*asked, *locked}):
            if asked.get(name) != locked.get(name):
                return (
                    f"{package.file.name} asks for {name} {asked.get(name, 'not at all')}, "
                    f"{lock.name} was made for {locked.get(name, 'none')}"
                )
    return None


def linked_packages(package: PackageJson, lock: Path | None) -> tuple[str, ...]:
    """Packages that are folders next to the project; they cannot be installed elsewhere."""
    asked = {
        name: wish for group in _GROUPS for name, wish in table(package.document, group).items()
    }
    folders = ("file:", "link:", "portal:", "workspace:", ".", "/", "~/")
    named = tuple(name for name, wish in asked.items() if str(wish).startswith(folders))
    entries = table(_read(lock), "packages") if lock is not None else {}
    return named or tuple(
        string(table(entries, path), "resolved") or path
        for path in entries
        if table(entries, path).get("link") is True
    )


def why_not_fitting(modules: Path, lock: Lock) -> str | None:
    """Why a `node_modules` of the user's does not fit the lock file; None: it fits."""
    match lock.manager:
        case "npm":
            return _why_not_npm(modules, lock.file)
        case "pnpm":
            installed = modules / ".pnpm" / "lock.yaml"
            return _unless_same(installed, lock.file)
        case "yarn":
            return _why_not_yarn(modules, lock.file)
        case "bun":
            return "devstack cannot compare it with bun's lock file"


def _why_not_npm(modules: Path, lock: Path) -> str | None:
    installed = table(_read(modules / ".package-lock.json"), "packages")
    if not installed:
        return "it was not made by npm 7 or newer"
    locked = table(_read(lock), "packages")
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
    installed = table(_read(modules / ".yarn-integrity"), "lockfileEntries")
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


def _read(file: Path) -> Table:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, Mapping) else {}
