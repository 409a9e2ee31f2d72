"""Where a Python folder says which packages it needs, and how that is told to an installer.

Reads files, runs nothing.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devstack.packs.base import CannotPrepare
from devstack.packs.python_setup import NAMES as SETUP_FILES
from devstack.packs.python_setup import read_setup
from devstack.packs.python_uv import uv_workspace
from devstack.packs.toml_tables import read_toml, string, strings, table
from devstack.packs.versions import version_numbers

Kind = Literal["uv", "pylock", "poetry", "pipenv", "requirements", "pyproject", "setup", "none"]

FILES = (
    "pyproject.toml", "requirements.txt", "requirements.lock", "Pipfile", "Pipfile.lock",
    "poetry.lock", "uv.lock", "pylock.toml", "setup.py", "setup.cfg", "manage.py",
)  # fmt: skip
"""What makes a folder a Python project, whatever else lies there."""
_REQUIREMENT_FILES = (
    "requirements.txt",
    "requirements.lock",
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements/base.txt",
)
_LOCKS: tuple[tuple[str, Kind], ...] = (
    ("uv.lock", "uv"),
    ("pylock.toml", "pylock"),
    ("poetry.lock", "poetry"),
)
_INCLUDE = re.compile(r"^(?:-r|--requirement)(?:\s+|=)?(?P<file>\S+)$")
_CONSTRAINT = re.compile(r"^(?:-c|--constraint)(?:\s+|=)?(?P<file>\S+)$")
_EDITABLE = re.compile(r"^(?:-e|--editable)(?:\s+|=)?(?P<path>\S+)")
_EXTRAS = re.compile(r"\[[^\]]*\]$")
_CLAUSE = re.compile(r"(?P<operator>>=|<=|==|~=|>|<|~|\^)\s*(?P<version>\d+(?:\.(?:\d+|\*))*)")


@dataclass(frozen=True, slots=True)
class Manifest:
    kind: Kind
    files: tuple[Path, ...]
    """The manifest first; its lock file, where it has one, last; and everything it includes."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of a requirements file, its continuation lines joined."""

    text: str
    folder: Path
    """Relative paths in it are relative to this."""

    @property
    def is_editable(self) -> bool:
        return _EDITABLE.match(self.text) is not None

    def without_hashes(self) -> str:
        return self.text.partition(" --hash")[0].strip()


def find_manifest(source: Path) -> Manifest:
    """A lock file is believed before a list, a list before the project's own wishes."""
    project = source / "pyproject.toml"
    workspace = uv_workspace(source)
    for lock, kind in _LOCKS:
        if (source / lock).is_file() and (project.is_file() or kind == "pylock"):
            files = (project, source / lock) if project.is_file() else (source / lock,)
            return Manifest(kind, files)
    if workspace is not None:
        return Manifest("uv", (project, workspace / "pyproject.toml", workspace / "uv.lock"))
    if (source / "Pipfile.lock").is_file():
        return Manifest("pipenv", (source / "Pipfile", source / "Pipfile.lock"))
    for name in _REQUIREMENT_FILES:
        if (source / name).is_file():
            included = dict.fromkeys(_included_files(source / name))
            extra = (project,) if project.is_file() else ()
            return Manifest("requirements", (*included, *extra))
    setup = read_setup(source)
    says_itself = "project" in read_toml(project) or is_poetry(source)
    if setup.packages and not says_itself:
        names = (*SETUP_FILES, project.name)
        return Manifest("setup", tuple(source / n for n in names if (source / n).is_file()))
    if project.is_file():
        return Manifest("pyproject", (project,))
    if (source / "Pipfile").is_file():
        raise CannotPrepare(
            f"cannot install packages: {source / 'Pipfile'} has no Pipfile.lock beside it",
            "run `pipenv lock` there",
        )
    return Manifest("none", ())


def is_poetry(source: Path) -> bool:
    """Whether pyproject.toml says in poetry's own table what is needed."""
    return bool(table(read_toml(source / "pyproject.toml"), "tool", "poetry"))


def read_requirements(file: Path) -> tuple[Requirement, ...]:
    """All lines of a requirements file and of those it includes; options are kept as they are."""
    return tuple(_read_requirements(file, frozenset()))


def is_project_itself(requirement: Requirement, source: Path) -> bool:
    """`-e .` and the like: the service runs from its folder, so only its dependencies are wanted."""
    path = local_path(requirement)
    return path is not None and path == Path(os.path.normpath(source))


def local_path(requirement: Requirement) -> Path | None:
    """The folder that a line installs from, if it does."""
    editable = _EDITABLE.match(requirement.text)
    text = editable["path"] if editable else requirement.without_hashes().partition(";")[0].strip()
    text = _EXTRAS.sub("", text.removeprefix("file://").removeprefix("file:"))
    if not editable and not text.startswith((".", "/")):
        return None
    if "://" in text:
        return None
    return Path(os.path.normpath(requirement.folder / text))


def without_project(manifest: Manifest, source: Path) -> tuple[str, ...] | None:
    """The lines of a requirements file with the project replaced by what it depends on.

    None where the file need not be changed.
    """
    lines = read_requirements(manifest.files[0])
    if not any(is_project_itself(line, source) for line in lines):
        return None
    kept = tuple(_absolute(line) for line in lines if not is_project_itself(line, source))
    return (*kept, *project_dependencies(source))


def project_dependencies(source: Path) -> tuple[str, ...]:
    return strings(table(read_toml(source / "pyproject.toml"), "project"), "dependencies")


def wanted_python(source: Path) -> str | None:
    """The interpreter a folder asks for, as `3.12` or `>=3.11 <3.14`."""
    try:
        lines = (source / ".python-version").read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        lines = []
    if lines and re.fullmatch(r"\d+(\.\d+)+", lines[0]):
        return ".".join(lines[0].split(".")[:2])
    document = read_toml(source / "pyproject.toml")
    said = string(table(document, "project"), "requires-python")
    said = said or string(table(document, "tool", "poetry", "dependencies"), "python")
    return _range(said or read_setup(source).python)


def _range(text: str) -> str | None:
    """`~=3.12` and poetry's `^3.12` and `~3.12` as lowest and first that is too new."""
    if "|" in text:
        return None
    bare = re.fullmatch(r"\s*(\d+(?:\.(?:\d+|\*))*)\s*", text)
    if bare is not None:
        return f"=={bare[1]}"
    clauses: list[str] = []
    for clause in _CLAUSE.finditer(text):
        operator, version = clause["operator"], clause["version"]
        numbers = version_numbers(version)
        # `~=3.12` leaves the last place free, `~3.12` all after the second, `^3.12` all but the first
        kept = {"~=": len(numbers) - 1, "~": min(len(numbers), 2), "^": 1}.get(operator)
        if kept is None:
            clauses.append(operator + version)
        elif kept > 0:
            above = ".".join(map(str, (*numbers[: kept - 1], numbers[kept - 1] + 1)))
            clauses += [f">={version}", f"<{above}"]
    return " ".join(clauses) or None


def has_hashes(manifest: Manifest) -> bool:
    return any("--hash" in line.text for line in read_requirements(manifest.files[0]))


def _read_requirements(file: Path, above: frozenset[Path]) -> Iterator[Requirement]:
    if file in above:
        return
    for line in _logical_lines(file):
        if include := _INCLUDE.match(line):
            inner = Path(os.path.normpath(file.parent / include["file"]))
            yield from _read_requirements(inner, above | {file})
        else:
            yield Requirement(line, file.parent)


def _included_files(file: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    if file in above:
        return
    yield file
    for line in _logical_lines(file):
        if include := _INCLUDE.match(line):
            inner = Path(os.path.normpath(file.parent / include["file"]))
            yield from _included_files(inner, above | {file})
        elif constraint := _CONSTRAINT.match(line):
            yield Path(os.path.normpath(file.parent / constraint["file"]))


def _logical_lines(file: Path) -> Iterator[str]:
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise CannotPrepare(
            f"cannot read {file}: {error.strerror}", "correct the -r line"
        ) from error
    for line in re.sub(r"\\\r?\n\s*", " ", text).splitlines():
        bare = re.sub(r"(^|\s)#.*$", "", line).strip()
        if bare:
            yield bare


def _absolute(line: Requirement) -> str:
    if constraint := _CONSTRAINT.match(line.text):
        return f"-c {os.path.normpath(line.folder / constraint['file'])}"
    path = local_path(line)
    if path is None:
        return line.text
    return f"-e {path}" if line.is_editable else str(path)
