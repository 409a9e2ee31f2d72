"""What lowering stands on: the tree for places, the folder for paths, and who is known.

Nothing of the project is executed or imported; folders and files it names are only looked at.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from devstack.config.problems import Place, Report
from devstack.config.schema import StopSection
from devstack.config.source import Items, Node, Scalar, Section
from devstack.core.model import ArgvCommand, Command, ShellCommand, Stop
from devstack.core.template import Template


@dataclass(slots=True)
class Ground:
    """The surroundings of everything that is lowered."""

    tree: Section
    folder: Path
    known: Collection[str]
    """Every name the stack file gives, whether or not what it names could be read."""
    damaged: frozenset[str]
    """Names of which a part could not be read: what they lack is not a mistake of its own."""
    report: Report
    roots: list[Path] = field(default_factory=list)
    """Folders under which named files may lie: the stack file's, and every source."""
    env_files: list[Path] = field(default_factory=list)

    def section(self, kind: str, name: str) -> Section:
        parent = self.tree[kind]
        assert isinstance(parent, Section)
        section = parent[name]
        assert isinstance(section, Section)  # the schema reads nothing else
        return section

    def key_place(self, kind: str, name: str) -> Place:
        parent = self.tree[kind]
        assert isinstance(parent, Section)
        return parent.key_place(name)

    def resolved(self, text: str) -> Path:
        try:
            return (self.folder / text).resolve()
        except (OSError, RuntimeError):  # a loop of symbolic links
            return self.folder / text

    def contained(self, text: str, place: Place, what: str) -> Path | None:
        """A file that must be there, under one of the roots, links followed."""
        path = self.resolved(text)
        if not any(path.is_relative_to(root) for root in self.roots):
            self.report.error(
                place,
                f"'{what}' cannot be '{text}': it lies outside the stack file's folder and every "
                "source",
            )
            return None
        if not exists(path):
            self.report.error(place, f"the {what} '{text}' does not exist")
            return None
        return path


def value_place(at: Section, key: str) -> Place:
    """Where the value of a key starts."""
    node = at.get(key)
    return at.key_place(key) if node is None else node.place


def paths_with_places(written: str | list[str], node: Node | None) -> list[tuple[str, Place]]:
    match node:
        case Scalar() if isinstance(written, str):
            return [(written, node.place)]
        case Items() if isinstance(written, list):
            return [(text, item.place) for text, item in zip(written, node, strict=True)]
        case _:
            return []


def exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def lower_stop(written: StopSection | None, usual: Stop) -> Stop:
    if written is None:
        return usual
    grace = usual.grace_seconds if written.grace is None else written.grace
    return Stop(written.signal or usual.signal, grace)


def lower_command(written: Template | list[Template]) -> Command:
    if isinstance(written, Template):
        return ShellCommand(written)
    return ArgvCommand(tuple(written))
