"""Which file and line a failure names: in a compiler's output, a traceback or a stack.

Read by the packs for build errors and by whoever tells why a replica ended.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Location:
    """Where the user should look, with what was said about it."""

    file: str
    """Relative to the source where it lies in it, as an editor opens it."""
    line: int
    message: str
    column: int | None = None

    def __str__(self) -> str:
        column = f":{self.column}" if self.column is not None else ""
        return f"{self.file}:{self.line}{column}" + (f" {self.message}" if self.message else "")


_GO = re.compile(
    r"^(?P<file>[^\s:][^:\n]*\.go):(?P<line>\d+)(?::(?P<column>\d+))?: (?P<message>.+)$"
)
_PYTHON_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')
_PYTHON_END = re.compile(r"^(?P<message>(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:: .*)?)$")
_NODE_HEAD = re.compile(
    r"^(?:file://)?(?P<file>/[^:\n]+\.(?:[cm]?[jt]sx?|json)):(?P<line>\d+)(?::\d+)?$"
)
_NODE_FRAME = re.compile(
    r"^\s+at .*?\(?(?:file://)?(?P<file>/[^():\n]+\.[cm]?[jt]sx?):(?P<line>\d+):\d+\)?$"
)
_NODE_ERROR = re.compile(r"^(?P<message>(?:Uncaught )?[A-Z]\w*(?: \[[A-Z_]+\])?: .*)$")
_GO_FRAME = re.compile(r"^\t(?P<file>/[^:\n]+\.go):(?P<line>\d+)(?: \+0x[0-9a-f]+)?$")
_TYPESCRIPT = re.compile(
    r"^(?P<file>[^\s(:][^(:\n]*\.[cm]?tsx?)[(:](?P<line>\d+)[,:]\d+\)?(?::| -) (?P<message>error .+)$"
)


def find_location(output: str, source: Path) -> Location | None:
    """The place in the user's own source that the end of an output blames, if it names one."""
    lines = output.splitlines()
    for search in (_compiler, _python, _node, _go_panic):
        if (found := search(lines, source)) is not None:
            return found
    return None


def _compiler(lines: list[str], source: Path) -> Location | None:
    for line in lines:
        for pattern in (_GO, _TYPESCRIPT):
            if (match := pattern.match(line.strip())) and not _is_foreign(match["file"], source):
                column = match.groupdict().get("column")
                return Location(
                    file=_relative(match["file"], source),
                    line=int(match["line"]),
                    message=match["message"],
                    column=int(column) if column else None,
                )
    return None


def _python(lines: list[str], source: Path) -> Location | None:
    frame: re.Match[str] | None = None
    found: Location | None = None
    for line in lines:
        if line.startswith("Traceback "):
            frame = None
        elif (match := _PYTHON_FRAME.match(line)) and not _is_foreign(match["file"], source):
            frame = match
        elif frame and (end := _PYTHON_END.match(line)):
            found = Location(_relative(frame["file"], source), int(frame["line"]), end["message"])
            frame = None
    return found


def _node(lines: list[str], source: Path) -> Location | None:
    place: re.Match[str] | None = None
    message = ""
    for line in lines:
        if match := _NODE_ERROR.match(line):
            message = match["message"]
        for pattern in (_NODE_HEAD, _NODE_FRAME):
            match = pattern.match(line)
            if match and place is None and not _is_foreign(match["file"], source):
                place = match
    if place is None:
        return None
    return Location(_relative(place["file"], source), int(place["line"]), message)


def _go_panic(lines: list[str], source: Path) -> Location | None:
    message = next((line for line in lines if line.startswith(("panic: ", "fatal error: "))), "")
    if not message:
        return None
    for match in _matches(_GO_FRAME, lines):
        if not _is_foreign(match["file"], source):
            return Location(_relative(match["file"], source), int(match["line"]), message)
    return None


def _matches(pattern: re.Pattern[str], lines: list[str]) -> Iterator[re.Match[str]]:
    return (match for line in lines if (match := pattern.match(line)))


def _is_foreign(file: str, source: Path) -> bool:
    """Libraries and the toolchain: not where the user made the mistake."""
    path = Path(file)
    if not path.is_absolute():
        return False
    return (
        not path.is_relative_to(source)
        or "node_modules" in path.parts
        or "site-packages" in path.parts
    )


def _relative(file: str, source: Path) -> str:
    path = Path(file)
    if path.is_absolute() and path.is_relative_to(source):
        return str(path.relative_to(source))
    return str(path)
