"""Whether a virtual environment of the user's has what the folder asks for.

Reads the metadata of installed packages and compares; runs nothing and writes nothing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from devstack.packs.python_locks import Pin, pipenv_lines, poetry_pins, poetry_wishes
from devstack.packs.python_manifest import (
    Manifest,
    is_project_itself,
    project_dependencies,
    read_requirements,
)
from devstack.packs.python_setup import read_setup
from devstack.packs.toml_tables import Table, read_toml, string, table, tables


def why_not_fitting(environment: Path, manifest: Manifest, source: Path) -> str | None:
    """Why the environment does not fit the manifest; None: it fits."""
    installed = _read(environment)
    if installed is None:
        return "it has no interpreter that works"
    match manifest.kind:
        case "uv":
            return installed.lacks_uv_lock(read_toml(manifest.files[-1]), source)
        case "poetry":
            pins = poetry_pins(manifest.files[-1])
            return installed.lacks(poetry_wishes(source)) or installed.differs(pins)
        case "pylock":
            return installed.lacks(_pylock_wishes(read_toml(manifest.files[-1])))
        case "pipenv":
            locked = pipenv_lines(manifest.files[-1])
            return installed.lacks(line.partition(" --hash")[0] for line in locked)
        case "requirements":
            lines = read_requirements(manifest.files[0])
            wishes = [
                line.without_hashes()
                for line in lines
                if not is_project_itself(line, source) and not _is_setting(line.text)
            ]
            if any(is_project_itself(line, source) for line in lines):
                wishes += project_dependencies(source)
            return installed.lacks(wishes)
        case "pyproject":
            return installed.lacks(project_dependencies(source))
        case "setup":
            return installed.lacks(read_setup(source).packages)
        case "none":
            return None
        case _:
            assert_never(manifest.kind)


@dataclass(frozen=True, slots=True)
class _Installed:
    versions: Mapping[str, str]
    requires: Mapping[str, tuple[str, ...]]
    python: str

    def lacks(self, wishes: Iterable[str]) -> str | None:
        """The first requirement not met, of these or of what the installed ones need themselves."""
        pending: list[tuple[str, frozenset[str]]] = [(wish, frozenset()) for wish in wishes]
        seen: set[tuple[str, frozenset[str]]] = set()
        while pending:
            line, extras = pending.pop()
            try:
                wish = Requirement(line)
            except InvalidRequirement:
                return f"`{line}` cannot be compared"
            if wish.marker is not None and not self._applies(wish.marker, extras):
                continue
            name = canonicalize_name(wish.name)
            have = self.versions.get(name)
            if have is None:
                return f"{name} is not installed"
            if not wish.specifier.contains(have, prereleases=True):
                return f"{name} is {have}, wanted {wish.specifier}"
            key = (name, frozenset(wish.extras))
            if key not in seen:
                seen.add(key)
                pending += [(need, key[1]) for need in self.requires.get(name, ())]
        return None

    def differs(self, pins: Iterable[Pin]) -> str | None:
        """The first installed package of another version than the locked one."""
        locked: dict[str, set[str]] = {}
        for pin in pins:
            locked.setdefault(canonicalize_name(pin.name), set()).add(pin.version)
        for name, versions in locked.items():
            have = self.versions.get(name)
            if have is not None and have not in versions and "" not in versions:
                return f"{name} is {have}, locked {', '.join(sorted(versions))}"
        return None

    def lacks_uv_lock(self, lock: Table, source: Path) -> str | None:
        entries: dict[str, list[Table]] = {}
        for entry in tables(lock, "package"):
            entries.setdefault(canonicalize_name(string(entry, "name")), []).append(entry)
        root = canonicalize_name(
            string(table(read_toml(source / "pyproject.toml"), "project"), "name")
        )
        if root not in entries:
            return "uv.lock does not name the project"
        pending = list(entries[root])
        seen = {root}
        while pending:
            for need in tables(pending.pop(), "dependencies"):
                name = canonicalize_name(string(need, "name"))
                if name in seen or not self._marker_applies(string(need, "marker")):
                    continue
                seen.add(name)
                found = entries.get(name, [])
                is_virtual = any(string(table(entry, "source"), "virtual") for entry in found)
                if name not in self.versions and not is_virtual:
                    return f"{name} is not installed"
                pending += found
        return self.differs(
            Pin(name, string(entry, "version"))
            for name, found in entries.items()
            for entry in found
            if name != root
        )

    def _marker_applies(self, text: str) -> bool:
        try:
            return not text or self._applies(Marker(text), frozenset())
        except InvalidMarker:
            return True

    def _applies(self, marker: Marker, extras: frozenset[str]) -> bool:
        known = {
            "python_version": ".".join(self.python.split(".")[:2]),
            "python_full_version": self.python,
        }
        return any(marker.evaluate(known | {"extra": extra}) for extra in extras or {""})


def _read(environment: Path) -> _Installed | None:
    try:
        config = (environment / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    version = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+\.\d+)", config, re.MULTILINE)
    folders = list(environment.glob("lib/python*/site-packages"))
    if version is None or len(folders) != 1 or not (environment / "bin" / "python").exists():
        return None
    versions: dict[str, str] = {}
    requires: dict[str, tuple[str, ...]] = {}
    for metadata in folders[0].glob("*.dist-info/METADATA"):
        name, its_version, needs = _read_metadata(metadata)
        versions[name] = its_version
        requires[name] = needs
    return _Installed(versions, requires, version[1])


def _read_metadata(file: Path) -> tuple[str, str, tuple[str, ...]]:
    name, version, needs = "", "", []
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.strip():
                break
            key, _, value = line.partition(":")
            if key == "Name":
                name = canonicalize_name(value.strip())
            elif key == "Version":
                version = value.strip()
            elif key == "Requires-Dist":
                needs.append(value.strip())
    return name, version, tuple(needs)


def _pylock_wishes(lock: Table) -> list[str]:
    wishes: list[str] = []
    for entry in tables(lock, "packages"):
        version = string(entry, "version")
        marker = string(entry, "marker")
        wish = string(entry, "name") + (f"=={version}" if version else "")
        wishes.append(wish + (f" ; {marker}" if marker else ""))
    return wishes


def _is_setting(line: str) -> bool:
    """Index and constraint lines install nothing; editable ones do and are not comparable."""
    return line.startswith("-") and not line.startswith(("-e", "--editable"))
