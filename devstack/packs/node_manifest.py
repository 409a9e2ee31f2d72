"""What a Node folder says of itself: its scripts, and the packages it asks for.

Reads files, runs nothing.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.packs.base import CannotPrepare
from devstack.packs.toml_tables import Table, string, table

GROUPS = ("dependencies", "devDependencies", "optionalDependencies")


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
        return any(table(self.document, group) for group in GROUPS)

    @property
    def engines(self) -> str:
        return string(table(self.document, "engines"), "node")


def read_package_json(source: Path) -> PackageJson:
    file = source / "package.json"
    try:
        document = _read_json(file)
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


def why_outdated(lock: Path, package: PackageJson) -> str | None:
    """How an npm lock file differs from what package.json asks for; npm's own answer is longer."""
    entries = table(read_object(lock), "packages")
    if "" not in entries:
        return None  # of npm 6 or older: npm tells
    root = table(entries, "")
    for group in GROUPS:
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
        name: wish for group in GROUPS for name, wish in table(package.document, group).items()
    }
    folders = ("file:", "link:", "portal:", "workspace:", ".", "/", "~/")
    named = tuple(name for name, wish in asked.items() if str(wish).startswith(folders))
    entries = table(read_object(lock), "packages") if lock is not None else {}
    return named or tuple(
        string(table(entries, path), "resolved") or path
        for path in entries
        if table(entries, path).get("link") is True
    )


def read_object(file: Path, to_json: Callable[[str], str] = str) -> Table:
    """A JSON file, or what `to_json` makes one of; empty when it cannot be read or is no object."""
    try:
        document = _read_json(file, to_json)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, Mapping) else {}


def _read_json(file: Path, to_json: Callable[[str], str] = str) -> object:
    text = to_json(file.read_text(encoding="utf-8-sig"))
    try:
        return json.loads(text)
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", text, 0) from error
