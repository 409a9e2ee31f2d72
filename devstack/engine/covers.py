"""Secrets in what a program said itself: found among its variables, covered line by line.

Its log keeps what it wrote, byte for byte; this is for what is told and kept elsewhere.
"""

import json
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator
from urllib.parse import quote, unquote

from devstack.core.env import COVER, Variable, password_in, without_passwords

_SHORTEST_SECRET = 5
_SHORTEST_WORD = 12
"""A password such as `postgres` or `30000` is in texts that have nothing to do with it."""


def secrets_among(variables: Iterable[Variable]) -> tuple[str, ...]:
    """What must not be shown of these variables, the longest first, as it may stand in a text.

    That is a line of it, since texts are looked at line by line.
    """
    found: set[str] = set()
    for variable in variables:
        if variable.is_secret:
            value = unquote(password_in(variable.value)) or variable.value
            found.update(line for line in value.splitlines() if _can_be_told(line))
    return tuple(sorted({form for each in found for form in _forms(each)}, key=len, reverse=True))


def covered(text: str, secrets: Collection[str]) -> str:
    """A line of a program's own words, without the secrets that `secrets_among` found."""
    for secret in secrets:
        text = text.replace(secret, COVER)
    return without_passwords(text)


def _can_be_told(secret: str) -> bool:
    """Whether it stands out in a text: else any text would be full of covers."""
    is_common = secret.isalpha() or secret.isdigit()
    return len(secret) >= (_SHORTEST_WORD if is_common else _SHORTEST_SECRET)


def _forms(secret: str) -> Iterator[str]:
    """As it is, and as it is written in URLs, in JSON and in headers."""
    yield secret
    yield quote(secret, safe="", errors="surrogateescape")
    yield json.dumps(secret)[1:-1]
    yield b64encode(secret.encode("utf-8", "surrogateescape")).decode()
