"""What is NGINX configuration, as a value: directives, and the one escaper every word passes.

Words from outside (names, paths, addresses) are `Value`s, and a `Value` that could end a word, start
a block, a comment, a string or a variable cannot be made. Words with variables, regular expressions
or punctuation are `Expression`s: text written in this package, quoted when rendered. A bare `str`
counts as a `Value`, so that forgetting to say which is safe.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

FORBIDDEN = frozenset("{};#$\"'\\")

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")
_KEY = re.compile(r"[a-z][a-z0-9-]{0,39}(\.[a-z][a-z0-9-]{0,39})?\Z")
_PATH = re.compile(r"/[A-Za-z0-9._~/-]*\Z")


class UnsafeValue(ValueError):
    """A text must not reach an NGINX file."""


@dataclass(frozen=True, slots=True)
class Value:
    """A word from outside; making one is the check."""

    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise UnsafeValue("cannot write an empty word into the gateway's configuration")
        for char in self.text:
            if char in FORBIDDEN or not "!" <= char <= "~":
                raise UnsafeValue(
                    f"cannot write {self.text!r} into the gateway's configuration:"
                    f" it has the character {char!r}"
                )


@dataclass(frozen=True, slots=True)
class Expression:
    """A word written in this package; it may hold variables and any punctuation."""

    text: str

    def __post_init__(self) -> None:
        if any(char < " " or char == "\x7f" for char in self.text):
            raise UnsafeValue(f"cannot write a control character: {self.text!r}")


Word = Value | Expression


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive with its words; `block` is None where it ends in a semicolon."""

    words: tuple[Word, ...]
    block: "tuple[Directive, ...] | None" = None
    origin: str = ""
    """The part of the stack file it comes from, for attributing NGINX's complaints."""


def line(*words: str | int | Word, origin: str = "") -> Directive:
    """A directive that ends in a semicolon."""
    return Directive(tuple(map(_word, words)), origin=origin)


def block(
    *words: str | int | Word, inside: Iterable[Directive] = (), origin: str = ""
) -> Directive:
    """A directive with a block."""
    return Directive(tuple(map(_word, words)), tuple(inside), origin)


def _word(word: str | int | Word) -> Word:
    if isinstance(word, int):
        return Value(str(word))
    return Value(word) if isinstance(word, str) else word


def checked_name(text: str) -> str:
    """`text`, if it is a name (of a stack or service)."""
    return _checked(text, _NAME, "name")


def checked_key(text: str) -> str:
    """`text`, if it is a routing-table key: a service, with `.endpoint` for further endpoints."""
    return _checked(text, _KEY, "routing-table key")


def checked_path(text: str) -> str:
    """`text`, if it is the path of a route."""
    return _checked(text, _PATH, "path")


def checked_port(port: int) -> int:
    """`port`, if there is such a port."""
    if isinstance(port, bool) or not 0 < port < 65536:
        raise UnsafeValue(f"cannot write {port!r} into the gateway's configuration: not a port")
    return port


def plain_sentence(text: str) -> Expression:
    """A sentence for people with everything that means something to NGINX or HTML left out."""
    kept = "".join(char if re.match(r"[A-Za-z0-9 .,:()/_%+-]", char) else " " for char in text)
    return Expression(" ".join(kept.split())[:500])


def _checked(text: str, pattern: re.Pattern[str], what: str) -> str:
    if not pattern.match(text):
        raise UnsafeValue(f"cannot write {text!r} into the gateway's configuration: not a {what}")
    return text


@dataclass(frozen=True, slots=True)
class Rendered:
    """Configuration text, and for each of its lines where it comes from."""

    text: str
    origins: tuple[str, ...]

    def origin_of(self, line_number: int) -> str:
        """The part of the stack file that line (from 1) of the text comes from, or an empty text."""
        if 0 < line_number <= len(self.origins):
            return self.origins[line_number - 1]
        return ""


def write(directives: Iterable[Directive]) -> Rendered:
    """The text of `directives`, one to a line."""
    lines: list[str] = []
    origins: list[str] = []

    def add(directive: Directive, depth: int, outer: str) -> None:
        origin = directive.origin or outer
        head = "  " * depth + " ".join(map(_quoted, directive.words))
        if directive.block is None:
            lines.append(head + ";")
            origins.append(origin)
            return
        lines.append(head + " {")
        origins.append(origin)
        for inner in directive.block:
            add(inner, depth + 1, origin)
        lines.append("  " * depth + "}")
        origins.append(origin)

    for directive in directives:
        add(directive, 0, "")
    return Rendered("\n".join(lines) + "\n", tuple(origins))


def _quoted(word: Word) -> str:
    text = word.text
    if isinstance(word, Value) or (text and not any(c in " {};#\"'\\" for c in text)):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
