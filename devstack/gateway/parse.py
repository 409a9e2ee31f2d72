"""What does a configuration text say: NGINX's tokenizer and tree, read back to check what was written.

`nginx -t` accepts an injected directive like any other; only comparing the tree that the text says
with the tree that was meant finds it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from devstack.gateway.directive import Directive

_SPACE = " \t\r\n"
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


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    is_mark: bool
    """Whether it is one of `;`, `{` and `}` outside quotes."""


def _nodes(tokens: Iterator[_Token], *, inside: bool) -> Iterator[Node]:
    words: list[str] = []
    for token in tokens:
        if not token.is_mark:
            words.append(token.text)
        elif token.text == "}":
            if words or not inside:
                raise ParseError('unexpected "}"')
            return
        elif not words:
            raise ParseError(f'unexpected "{token.text}"')
        elif token.text == ";":
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
            at += 1
        elif char == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif char in ";{}":
            yield _Token(char, is_mark=True)
            at += 1
        elif char in "\"'":
            word, at = _quoted_word(text, at)
            yield _Token(word, is_mark=False)
        else:
            word, at = _bare_word(text, at)
            yield _Token(word, is_mark=False)


def _quoted_word(text: str, at: int) -> tuple[str, int]:
    quote, word, at = text[at], "", at + 1
    while at < len(text) and text[at] != quote:
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
        char, at = _char(text, at)
        word += char
    return word, at


def _char(text: str, at: int) -> tuple[str, int]:
    if text[at] != "\\" or at + 1 >= len(text):
        return text[at], at + 1
    following = text[at + 1]
    return _UNESCAPED.get(following, "\\" + following), at + 2
