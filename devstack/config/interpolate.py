"""Fills `${VAR}` into the tree and turns `${orders.url}` into references; leaves `x-` keys out.

    ${VAR}  ${VAR:-default}  ${VAR-default}  ${VAR:?message}  ${VAR?message}  ${VAR:+other}  ${VAR+other}
    ${service.field}  ${service.endpoint.field}  ${self.field}  ${secrets.name.path}
    $$ is one $; a $ before anything else stays as it is, so `$PORT` reaches the shell

Defaults may contain all of these again. A variable's own value is never looked into: there are no
surprises in `.env`, and no cycles. Whether what a reference names exists is asked in `references`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from devstack.config.problems import Place, Report
from devstack.config.source import Items, Node, Scalar, Section
from devstack.core.template import Reference, Template, parse_template

MAX_CHARACTERS: Final = 4 * 1024 * 1024
"""All filled-in texts together: a few bytes of YAML can repeat a variable of a megabyte."""

_MAX_NESTING: Final = 20
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE: Final = re.compile(
    rf"(?P<name>{_NAME.pattern})(?:(?P<operator>:?[-?+])(?P<word>.*))?", re.DOTALL
)
_LIKE_A_REFERENCE: Final = re.compile(r"[A-Za-z][\w-]*(?:\.[\w-]*)+")


def fill_in(tree: Section, variables: Mapping[str, str], report: Report) -> Section:
    """A new tree in which each scalar has its template; `x-` keys and what is below them are gone."""
    filled = _Filler(variables, report).node(tree)
    assert isinstance(filled, Section)
    return filled


class _Filler:
    def __init__(self, variables: Mapping[str, str], report: Report) -> None:
        self._variables = variables
        self._report = report
        self._characters = 0
        self._is_full = False
        self._bare = ""

    def node(self, node: Node) -> Node:
        match node:
            case Scalar():
                return self._scalar(node)
            case Items():
                items = Items(node.place)
                items.extend(self.node(item) for item in node)
                return items
            case Section():
                section = Section(node.place)
                for key, value in node.items():
                    if not key.startswith("x-"):
                        section.put(key, node.key_places[key], self.node(value))
                return section

    def _scalar(self, scalar: Scalar) -> Scalar:
        if "$" not in scalar.text:
            self._count(scalar, len(scalar.text))
            return replace(scalar, template=Template((scalar.text,) if scalar.text else ()))
        parts: list[str | Reference] = []
        self._bare = ""
        try:
            self._expand(scalar.text, parts, 0)
        except _Wrong as wrong:
            place = self._report.find(scalar.place, wrong.near)
            self._report.error(place, wrong.message, wrong.hint)
            return replace(scalar, text="", is_plain=False, is_broken=True)
        template = Template(tuple(_joined(parts)))
        text = str(template)
        self._count(scalar, len(text))
        # What a variable holds was not typed as YAML, so it is never null nor a trap of its types.
        return replace(
            scalar, text=text, template=template, is_plain=False, bare_variable=self._bare
        )

    def _expand(self, text: str, parts: list[str | Reference], depth: int) -> None:
        """Append the parts of a text, its variables filled in."""
        if depth > _MAX_NESTING:
            raise _Wrong(text[:20], f"defaults are nested deeper than {_MAX_NESTING} levels")
        position = 0
        while (dollar := text.find("$", position)) >= 0:
            parts.append(text[position:dollar])
            if text.startswith("$$", dollar):
                parts.append("$")
                position = dollar + 2
            elif text.startswith("${", dollar):
                end = _closing_brace(text, dollar)
                self._expression(text[dollar:end], parts, depth)
                position = end
            else:
                bare = _NAME.match(text, dollar + 1)
                self._bare = self._bare or (bare[0] if bare else "")
                parts.append("$")
                position = dollar + 1
        parts.append(text[position:])

    def _expression(self, written: str, parts: list[str | Reference], depth: int) -> None:
        """One `${…}`, braces included."""
        reference = parse_template(written).references
        if len(reference) == 1 and str(reference[0]) == written:
            parts.append(reference[0])
            return
        body = written[2:-1]
        match = _VARIABLE.fullmatch(body)
        if match is None:
            hint = "variables are written ${NAME}, references ${service.field}; $$ is one $"
            if _LIKE_A_REFERENCE.fullmatch(body):
                hint = "a reference is ${service.field} or ${service.endpoint.field}, in lower case"
            raise _Wrong(written, f"cannot read '{_short(written)}'", hint)
        name, operator, word = match["name"], match["operator"] or "", match["word"] or ""
        value = self._variables.get(name)
        is_there = value is not None and (value != "" or not operator.startswith(":"))
        match operator[-1:]:
            case "+":
                if is_there:
                    self._expand(word, parts, depth + 1)
            case _ if is_there and value is not None:
                parts.append(value)
            case "-":
                self._expand(word, parts, depth + 1)
            case "?":
                raise _Wrong(
                    written, f"the variable '{name}' is needed: {_short(word) or 'not set'}"
                )
            case _:
                raise _Wrong(
                    written,
                    f"the variable '{name}' is not set",
                    f"set it in the environment or in .env, or write ${{{name}:-default}}; "
                    f"$${{{name}}} leaves it to the shell",
                )

    def _count(self, scalar: Scalar, characters: int) -> None:
        self._characters += characters
        if self._characters > MAX_CHARACTERS and not self._is_full:
            self._is_full = True
            self._report.error(scalar.place, "the variables filled in make more than 4 MiB")


@dataclass
class _Wrong(Exception):
    near: str
    message: str
    hint: str = ""


def _closing_brace(text: str, start: int) -> int:
    """The position behind the brace that closes the `${` at `start`; inner `${…}` are skipped."""
    depth, position = 1, start + 2
    while position < len(text):
        if text.startswith("$$", position):
            position += 2
        elif text.startswith("${", position):
            depth += 1
            position += 2
        elif text[position] == "}":
            depth -= 1
            position += 1
            if depth == 0:
                return position
        else:
            position += 1
    raise _Wrong(text[start : start + 12], "'${' is not closed by '}'", "write $${ for the text ${")


def _joined(parts: list[str | Reference]) -> list[str | Reference]:
    """Neighbouring texts as one, empty ones left out."""
    result: list[str | Reference] = []
    for part in parts:
        if isinstance(part, str) and result and isinstance(result[-1], str):
            result[-1] += part
        elif part != "":
            result.append(part)
    return result


def _short(text: str) -> str:
    line = text.split("\n", 1)[0]
    return line if len(line) <= 60 else line[:57] + "…"


def place_of_reference(scalar: Scalar, reference: Reference, report: Report) -> Place:
    return report.find(scalar.place, str(reference))
