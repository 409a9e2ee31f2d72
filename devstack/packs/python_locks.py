"""What the lock files of pipenv and poetry fix, in the words of an installer that knows neither.

Reads files, runs nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.packs.base import CannotPrepare
from devstack.packs.python_manifest import project_dependencies
from devstack.packs.toml_tables import Table, read_toml, string, strings, table, tables
from devstack.packs.versions import version_numbers


@dataclass(frozen=True, slots=True)
class Pin:
    name: str
    version: str
    marker: str = ""


def pipenv_lines(lock: Path) -> tuple[str, ...]:
    """A Pipfile.lock in the format of a requirements file, hashes kept."""
    try:
        document = json.loads(lock.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise CannotPrepare(f"cannot read {lock}: {error}", "run `pipenv lock` there") from error
    packages = table(document, "default") if isinstance(document, Mapping) else {}
    lines: list[str] = []
    for name in packages:
        entry = table(packages, name)
        version = string(entry, "version")
        if not version.startswith("=="):
            raise CannotPrepare(
                f"cannot install packages: {lock} has {name} from a place that is not an index",
                "install it yourself into .venv (PIPENV_VENV_IN_PROJECT=1 pipenv sync)",
            )
        extras = ",".join(strings(entry, "extras"))
        marker = string(entry, "markers")
        line = name + (f"[{extras}]" if extras else "") + version
        line += f" ; {marker}" if marker else ""
        lines.append(line + "".join(f" --hash={value}" for value in strings(entry, "hashes")))
    return tuple(lines)


def poetry_pins(lock: Path) -> tuple[Pin, ...]:
    """What a poetry.lock fixes, for every platform and group."""
    entries = tables(read_toml(lock), "package")
    return tuple(
        Pin(string(entry, "name"), string(entry, "version"), _poetry_marker(entry))
        for entry in entries
    )


def poetry_constraints(pins: tuple[Pin, ...]) -> tuple[str, ...]:
    """Pins as an installer takes them, where one package may have several versions.

    The markers tell which is meant. Poetry before 2.0 did not write them: the range is the most
    that can be said then.
    """
    by_name: dict[str, list[Pin]] = {}
    for pin in pins:
        by_name.setdefault(pin.name, []).append(pin)
    lines: list[str] = []
    for name, several in by_name.items():
        if len(several) == 1:
            lines.append(f"{name}=={several[0].version}")
        elif all(pin.marker for pin in several):
            lines += [f"{name}=={pin.version} ; {pin.marker}" for pin in several]
        else:
            versions = sorted((pin.version for pin in several), key=version_numbers)
            lines.append(f"{name}>={versions[0]},<={versions[-1]}")
    return tuple(lines)


def poetry_wishes(source: Path) -> tuple[str, ...]:
    """What a poetry project asks for itself; only the lock file says which versions."""
    asked = table(read_toml(source / "pyproject.toml"), "tool", "poetry", "dependencies")
    wishes: list[str] = []
    for name in asked:
        details = table(asked, name)
        if name.lower() == "python" or details.get("optional"):
            continue
        if details.keys() & {"git", "path", "url"}:
            raise CannotPrepare(
                f"cannot install packages: pyproject.toml has {name} from a place that is not an index",
                "install them yourself into .venv (POETRY_VIRTUALENVS_IN_PROJECT=1 poetry install)",
            )
        extras = ",".join(strings(details, "extras"))
        wishes.append(f"{name}[{extras}]" if extras else name)
    return (*wishes, *project_dependencies(source))


def _poetry_marker(entry: Table) -> str:
    """Where an entry applies; written per group where the groups differ."""
    by_group = table(entry, "markers")
    return string(entry, "markers") or string(by_group, "main")
