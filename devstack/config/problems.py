"""What is wrong with the files a person wrote: where, what, and what to do about it.

Every part of `config` reports here, so that all problems are told at once, in the order of their
places. Printing them is the command line's; here they are only made into text.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_SECRET = re.compile(
    r"""(?ix) (?P<name>[\w.-]*(?:password|passwd|secret|token|key)[\w.-]*["']?\s*[:=]\s*)
        (?P<value>"(?:[^"\\]|\\.)*" | '[^']*' | (?!\$\{|[{\[&*|>])[^\s,}\]][^,}\]]*)"""
)
_URL_PASSWORD = re.compile(r"(?P<name>://[^\s:/@]*:)(?P<value>[^\s@/]+)(?=@)")


_SHOWN: Final = 500
"""Characters of a line that can be shown: a line may be a megabyte long."""


@dataclass(frozen=True, slots=True)
class Place:
    """A character of a file, counted from 1 as editors do; line 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


def lines_of(places: Sequence[Place]) -> str:
    """`line 3`, `lines 3, 7`, or with the files where they are not all in one."""
    files = {place.file for place in places}
    said = ", ".join(str(p.line) if len(files) == 1 else str(p) for p in places)
    return f"{'line' if len(places) == 1 else 'lines'} {said}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong (or, as a warning, doubtful) at one place."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    excerpt: str = ""
    """The line of the file, values that look like secrets covered."""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def render(self) -> str:
        """`stack.yaml:12:7: unknown key 'comand' (did you mean 'command'?)`, the line and a caret."""
        lines = [f"{self.where}: {self.message}"]
        if self.line and self.excerpt.strip() and self.column <= len(self.excerpt) + 1:
            text = self.excerpt.rstrip().expandtabs(1)
            start = max(0, min(self.column - 40, len(text) - 100)) if len(text) > 100 else 0
            shown = text[start : start + 100]
            lines.append(f"    {shown}")
            lines.append("    " + " " * (self.column - 1 - start) + "^")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class ConfigError(Exception):
    """The stack file, its override or a file they name cannot be used; has every problem found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sort_problems(problems)
        super().__init__(render_problems(self.problems))


def sort_problems(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """In the order of files and places, each told once (an anchor's line may be read many times)."""
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda p: (p.file, p.line, p.column)))


def render_problems(problems: Iterable[Problem]) -> str:
    return "\n".join(problem.render() for problem in problems)


def cover_secrets(line: str) -> str:
    """A line of a file with stars for what looks like a password; lengths stay, for the caret."""

    def stars(match: re.Match[str]) -> str:
        return match["name"] + "*" * len(match["value"])

    return _URL_PASSWORD.sub(stars, _SECRET.sub(stars, line))


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """` (did you mean 'command'?)`, or nothing when no known word is near."""
    words = list(known)
    if len(typed) > 60 or len(words) > 500:
        return ""  # comparing is slow, and who types such a file does not misspell it
    nearest = difflib.get_close_matches(typed.lower(), words, n=1, cutoff=0.6)
    return f" (did you mean '{nearest[0]}'?)" if nearest else ""


class Report:
    """Collects problems and warnings of one load; knows the text of each file for the excerpts."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._lines: dict[str, list[str]] = {}

    def add_text(self, file: str, text: str) -> None:
        # YAML and .env end lines at \n, \r\n and \r only; str.splitlines knows seven more.
        self._lines[file] = re.split(r"\r\n|\r|\n", text)

    def error(self, place: Place, message: str, hint: str = "") -> None:
        self.problems.append(self._problem(place, message, hint))

    def warn(self, place: Place, message: str, hint: str = "") -> None:
        self.warnings.append(self._problem(place, message, hint))

    def find(self, start: Place, text: str) -> Place:
        """Where a text is first found from a place on (a block of text starts before its words)."""
        lines = self._lines.get(start.file, [])
        for number in range(start.line, min(start.line + 200, len(lines) + 1)):
            line = lines[number - 1]
            column = line.find(text, start.column - 1 if number == start.line else 0)
            if column >= 0:
                return Place(start.file, number, column + 1)
        return start

    def raise_problems(self) -> None:
        """Raise `ConfigError` if anything was reported."""
        if self.problems:
            raise ConfigError(self.problems)

    def _problem(self, place: Place, message: str, hint: str) -> Problem:
        lines = self._lines.get(place.file, [])
        excerpt = lines[place.line - 1][:_SHOWN] if 0 < place.line <= len(lines) else ""
        return Problem(place.file, place.line, place.column, message, hint, cover_secrets(excerpt))
