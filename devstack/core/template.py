"""Texts with references into the stack: `${orders.url}`, `${self.port}`.

A template is parsed once, at load; where it points is decided at each start, because addresses
belong to the replica that asks. `${VAR:-default}` of the shell is not ours: config resolves it first.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

FIELDS = frozenset(
    {"url", "host", "port", "address", "user", "password", "database", "dsn", "path"}
)
"""What can be asked of a service, database or secret in a reference."""

_REFERENCE = re.compile(
    r"\$\{(?P<path>(?:secrets\.)?[a-z][a-z0-9-]*)(?:\.(?P<endpoint>[a-z][a-z0-9-]*))?"
    r"\.(?P<field>[a-z]+)\}"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """`${service.field}` or `${service.endpoint.field}`; the service may be `self`."""

    service: str
    field: str
    endpoint: str | None = None
    secret: bool = False
    """`${secrets.NAME.path}`: `service` is then the secret's name."""

    def __str__(self) -> str:
        endpoint = f".{self.endpoint}" if self.endpoint else ""
        prefix = "secrets." if self.secret else ""
        return f"${{{prefix}{self.service}{endpoint}.{self.field}}}"


@dataclass(frozen=True, slots=True)
class Template:
    """A text whose references are not resolved yet."""

    parts: tuple[str | Reference, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        return tuple(part for part in self.parts if isinstance(part, Reference))

    def resolve(self, lookup: Callable[[Reference], str]) -> str:
        """The text for one consumer; whatever `lookup` raises passes through."""
        return "".join(lookup(p) if isinstance(p, Reference) else p for p in self.parts)

    def __str__(self) -> str:
        return "".join(str(part) for part in self.parts)


def literal(text: str) -> Template:
    """A template without references, whatever the text contains."""
    return Template((text,) if text else ())


def parse_template(text: str) -> Template:
    """Split a text at its references; anything that is none of ours stays as it is written."""
    parts: list[str | Reference] = []
    position = 0
    for match in _REFERENCE.finditer(text):
        if match.start() > position:
            parts.append(text[position : match.start()])
        path = match["path"]
        is_secret = path.startswith("secrets.")
        parts.append(
            Reference(
                service=path.removeprefix("secrets."),
                field=match["field"],
                endpoint=match["endpoint"],
                secret=is_secret,
            )
        )
        position = match.end()
    if position < len(text):
        parts.append(text[position:])
    return Template(tuple(parts))
