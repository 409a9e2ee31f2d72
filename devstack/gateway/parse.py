"""What does a configuration text say: NGINX's tokenizer and tree, read back to check what was written.

`nginx -t` accepts an injected directive like any other; only comparing the tree that the text says
with the tree that was meant finds it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from devstack.gateway.directive import Directive

_SPACE = " \t\r\n"
# runs of characters that mean nothing else, taken at once: a stack of thirty services has a megabyte
_BLANKS = re.compile(f"[{_SPACE}]+")
_PLAIN = re.compile(rf"[^{_SPACE};{{\\$]+")
_PLAIN_QUOTED = {quote: re.compile(rf"[^{quote}\\]+") for quote in "\"'"}
_UNESCAPED = {"t": "\t", "r": "\r", "n": "\n", '"': '"', "'": "'", "\\": "\\"}


class ParseError(ValueError):
    """A text is not NGINX configuration."""


class NotAsMeant(Exception):
    """A rendered text says something else than the directives it was rendered from."""


@dataclass(frozen=True, slots=True)
class Node:
    """A directive as read from a text."""

    words: tuple[str, ...]
    block: "tuple[Node, ...] | None" = None


def parse(text: str) -> tuple[Node, ...]:
    """The tree of directives in `text`."""
    tokens = _tokens(text)
    nodes = _nodes(tokens, inside=False)
    return tuple(nodes)


def verify(text: str, meant: Iterable[Directive]) -> None:
    """Raise `NotAsMeant` unless `text` says exactly what `meant` does."""
    try:
        said = parse(text)
    except ParseError as exc:
        raise NotAsMeant(f"cannot use the rendered gateway configuration: {exc}") from exc
    wanted = tuple(map(_node, meant))
    if said != wanted:
        first = next(
            (
                f"{s.words!r} instead of {w.words!r}"
                for s, w in zip(said, wanted, strict=False)
                if s != w
            ),
            f"{len(said)} directives instead of {len(wanted)}",
        )
        raise NotAsMeant(f"cannot use the rendered gateway configuration: it says {first}")


def _node(directive: Directive) -> Node:
    block = None if directive.block is None else tuple(map(_node, directive.block))
    return Node(tuple(word.text for word in directive.words), block)


_Token = tuple[str, bool]
"""A text, and whether it is one of `;`, `{` and `}` outside quotes."""


def _nodes(tokens: Iterator[_Token], *, inside: bool) -> Iterator[Node]:
    words: list[str] = []
    for text, is_mark in tokens:
        if not is_mark:
            words.append(text)
        elif text == "}":
            if words or not inside:
                raise ParseError('unexpected "}"')
            return
        elif not words:
            raise ParseError(f'unexpected "{text}"')
        elif text == ";":
            yield Node(tuple(words))
            words = []
        else:
            yield Node(tuple(words), tuple(_nodes(tokens, inside=True)))
            words = []
    if words or inside:
        raise ParseError("unexpected end")


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        char = text[at]
        if char in _SPACE:
            at = _end_of(_BLANKS, text, at)
        elif char == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif char in ";{}":
            yield char, True
            at += 1
        elif char in "\"'":
            word, at = _quoted_word(text, at)
            yield word, False
        else:
            word, at = _bare_word(text, at)
            yield word, False


def _quoted_word(text: str, at: int) -> tuple[str, int]:
    quote, word, at = text[at], "", at + 1
    plain = _PLAIN_QUOTED[quote]
    while at < len(text) and text[at] != quote:
        end = _end_of(plain, text, at)
        word += text[at:end]
        at = end
        if at < len(text) and text[at] == "\\":
            char, at = _char(text, at)
            word += char
    if at >= len(text):
        raise ParseError("a quote is not closed")
    at += 1
    if at < len(text) and text[at] not in _SPACE + ";{)":
        raise ParseError(f'unexpected "{text[at]}" after a quote')
    return word, at


def _bare_word(text: str, at: int) -> tuple[str, int]:
    word = ""
    while at < len(text) and text[at] not in _SPACE + ";{":
        if text.startswith("${", at):
            word, at = word + "${", at + 2
            continue
        end = _end_of(_PLAIN, text, at)
        if end > at:
            word, at = word + text[at:end], end
            continue
        char, at = _char(text, at)
        word += char
    return word, at


def _end_of(run: re.Pattern[str], text: str, at: int) -> int:
    """Where a run of characters that begins at `at` ends; `at` itself where there is none."""
    found = run.match(text, at)
    return found.end() if found is not None else at


def _char(text: str, at: int) -> tuple[str, int]:
    if text[at] != "\\" or at + 1 >= len(text):
        return text[at], at + 1
    following = text[at + 1]
    return _UNESCAPED.get(following, "\\" + following), at + 2
