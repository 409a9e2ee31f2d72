"""Which pack a folder belongs to, by the files in it; nothing of the project is run or imported.

A manifest (`go.mod`; `pyproject.toml`, `requirements.txt` and the like; `package.json`) is believed
before bare source files; a program of a Go module above is as good as a `go.mod`. Of several
manifests the first in the order Go, Python, Node counts: a `package.json` beside `go.mod` or
`requirements.txt` is nearly always for the web page that the service ships. Where `main` names a
file its suffix decides.
"""

from dataclasses import dataclass
from pathlib import Path

from devstack.packs import python_manifest
from devstack.packs.base import CannotPrepare, FindTool, Pack
from devstack.packs.dockerfile import find_dockerfile, start_command
from devstack.packs.go import GoPack
from devstack.packs.go_mains import program_of_module_above
from devstack.packs.node import NodePack
from devstack.packs.plain import PlainPack
from devstack.packs.python import PythonPack

_MANIFESTS: dict[str, tuple[str, ...]] = {
    "go": ("go.mod",),
    "python": python_manifest.FILES,
    "node": ("package.json",),
}
_SUFFIXES = {
    ".go": "go", ".py": "python", ".js": "node", ".mjs": "node", ".cjs": "node", ".ts": "node",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Detected:
    pack: Pack
    because: str
    """The file or pattern that decided."""
    also: tuple[str, ...] = ()
    """Other languages that the folder could have been."""


def all_packs(tools: FindTool) -> tuple[Pack, ...]:
    """Every language, in the order in which they are believed."""
    return (GoPack(tools), PythonPack(tools), NodePack(tools))


def detect(
    source: Path,
    packs: tuple[Pack, ...],
    *,
    main: str | None = None,
    user_command: tuple[str, ...] | str | None = None,
) -> Detected:
    """The pack of a folder; raises `CannotPrepare` with what was looked for."""
    if not source.is_dir():
        raise CannotPrepare(f"cannot prepare {source}: no such folder", "correct `source`")
    by_manifest = [(pack, name) for pack in packs if (name := _manifest(pack, source)) is not None]
    by_files = [(pack, f"{pack.name} files") for pack in packs if pack.matches(source)]
    matching = by_manifest or by_files
    if not matching:
        if user_command is not None:
            return Detected(PlainPack(user_command), "command")
        raise _unknown(source)
    chosen, because = _named(matching, main) or matching[0]
    also = tuple(pack.name for pack, _ in matching if pack is not chosen)
    return Detected(chosen, because, also)


def _named(matching: list[tuple[Pack, str]], main: str | None) -> tuple[Pack, str] | None:
    language = _SUFFIXES.get(Path(main).suffix) if main else None
    return next(((pack, f"main: {main}") for pack, _ in matching if pack.name == language), None)


def _manifest(pack: Pack, source: Path) -> str | None:
    names = _MANIFESTS.get(pack.name, ())
    found = next((name for name in names if (source / name).is_file()), None)
    if found is None and pack.name == "go" and (program := program_of_module_above(source)):
        return str(program.relative_to(source))
    return found


def _unknown(source: Path) -> CannotPrepare:
    looked_for = ", ".join(name for names in _MANIFESTS.values() for name in names)
    dockerfile = find_dockerfile(source)
    if dockerfile is not None:
        start = start_command(dockerfile)
        said = f"; it starts with: {start}" if start else ""
        return CannotPrepare(
            f"cannot prepare {source}: only {dockerfile.name} says how to build it, and containers "
            f"are not in this version{said}",
            "write `command:` to run it as a process",
        )
    return CannotPrepare(
        f"cannot prepare {source}: its language is not known; none of {looked_for}, *.go, *.py, "
        "server.js, Dockerfile is there",
        "add one of them, or write `command:` in the stack file",
    )
