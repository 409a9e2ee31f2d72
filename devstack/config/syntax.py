"""Says in a person's words what a YAML parser could not read, and where."""

import re
from typing import Final

import yaml

from devstack.config.problems import Place, Report

_EXPLAINABLE: Final = 64 * 1024
"""Up to this size a syntax error is asked for again from the slow parser, whose words are better."""

_OPEN_QUOTE: Final = "the quote is not closed"
_CONTEXTS: Final = {
    "flow sequence": "the list in [ ]",
    "flow mapping": "the map in { }",
    "block mapping": "the map",
    "block collection": "the list",
    "quoted scalar": "the quoted text",
}


def report_syntax(error: yaml.MarkedYAMLError, text: str, name: str, report: Report) -> None:
    exc = _readable(text, error)
    mark = exc.problem_mark or exc.context_mark
    line = mark.line if mark else 0
    lines = re.split(r"\r\n|\r|\n", text)
    if (tab := _tab_indentation(lines, line)) is not None:
        place = Place(name, tab[0] + 1, tab[1] + 1)
        report.error(place, "a tab cannot indent YAML", "indent with spaces")
        return
    message, hint = _explain(exc, line)
    if message == _OPEN_QUOTE and exc.context_mark:
        mark = exc.context_mark
    column = mark.column if mark else 0
    report.error(Place(name, (mark.line if mark else 0) + 1, column + 1), message, hint)


def _explain(exc: yaml.MarkedYAMLError, line: int) -> tuple[str, str]:
    """A parser's words as a person's, with a hint."""
    problem = exc.problem or "cannot be read as YAML"
    started = ""
    if exc.context_mark and exc.context and exc.context_mark.line != line:
        for term, words in _CONTEXTS.items():
            if term in exc.context:
                started = f"{words} starts on line {exc.context_mark.line + 1}"
    if "quoted scalar" in (exc.context or "") and "unexpected end" in problem:
        return _OPEN_QUOTE, "write the same quote at the end of the text"
    if "mapping values are not allowed" in problem:
        return (
            "a ':' is not allowed here",
            "quote a text that contains ': ', and check the indentation",
        )
    if found := re.search(r"found character (\S+) that cannot start any token", problem):
        return f"a value cannot start with {found[1]}", "put the value in quotes"
    if "expected <block end>" in problem or "did not find expected key" in problem:
        hint = "check the indentation, and that a key stands before every ':'"
        return "this does not fit the lines above", f"{started}; {hint}" if started else hint
    return re.sub(r"[<>]", "", problem), started


def _tab_indentation(lines: list[str], near: int) -> tuple[int, int] | None:
    """The first tab in the white space that starts the line of an error or the one before."""
    for number in (near - 1, near):
        if 0 <= number < len(lines):
            line = lines[number]
            blank = line[: len(line) - len(line.lstrip())]
            if "\t" in blank and line.strip():
                return number, blank.index("\t")
    return None


def report_character(text: str, position: int, name: str, report: Report) -> None:
    """A control character: YAML forbids them, and the parsers only know how far they were."""
    found = re.search(
        "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]", text
    )
    start = found.start() if found else position
    before = re.split(r"\r\n|\r|\n", text[:start])
    shown = f" U+{ord(text[start]):04X}" if start < len(text) else ""
    report.error(
        Place(name, len(before), len(before[-1]) + 1),
        f"the character{shown} is not allowed in YAML",
        'write it as an escape in double quotes, such as "\\x1b"',
    )


def _readable(text: str, exc: yaml.MarkedYAMLError) -> yaml.MarkedYAMLError:
    """The same error in the words of the parser written in Python, which says what it found."""
    if len(text) <= _EXPLAINABLE:
        try:
            for _ in yaml.parse(text, Loader=yaml.SafeLoader):
                pass
        except yaml.MarkedYAMLError as readable:
            return readable
        except yaml.reader.ReaderError:
            pass  # it looks further ahead; what the first parser met comes earlier
    return exc
