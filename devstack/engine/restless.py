"""Sources that are written to all the time: how often a start waits for one, and what to tell of it.

A start that finds another source than was prepared is given up, so that what was edited is prepared
first. A program that keeps writing a file of its own source would never be started again.
"""

from dataclasses import dataclass, field
from pathlib import Path

from devstack.core.model import Service, SourceProgram
from devstack.packs.digest import walk_source

MOST_SKIPS = 2
"""Starts in a row that one slot gives up."""


@dataclass(slots=True)
class Restless:
    """What each slot found of its source: the starts given up for it, and the last digest."""

    _found: dict[tuple[str, int], tuple[int, str]] = field(default_factory=dict)

    def keeps_changing(self, service: str, slot: int, digest: str) -> bool:
        """Note a source that is not the prepared one; whether it is another each time."""
        skips, last = self._found.get((service, slot), (0, ""))
        skips = skips + 1 if digest != last else 1
        self._found[service, slot] = skips, digest
        return skips > MOST_SKIPS

    def is_as_prepared(self, service: str, slot: int) -> None:
        """Note a source that kept still."""
        self._found.pop((service, slot), None)


def restless_text(service: Service) -> str:
    """What to tell people; looks through the source, blocking."""
    told = "its source changes while it starts"
    program = service.program
    folder = program.source if isinstance(program, SourceProgram) else None
    files = walk_source(Path(folder), code_suffixes=()) if folder is not None else ()
    newest = max(files, key=_written_at, default=None)
    if folder is None or newest is None:
        return f"{told}: it is started as it is"
    return (
        f"{told}: {newest.relative_to(folder)} was written last; "
        f"name it in {folder}/.gitignore, or have it written elsewhere"
    )


def _written_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0  # it was removed since
