"""Secrets in what a program said itself: found among its variables, covered line by line.

Its log keeps what it wrote, byte for byte; this is for what is told and kept elsewhere.
"""

import json
import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator
from urllib.parse import quote, unquote

from devstack.core.env import COVER, Variable, password_in, without_passwords

_SHORTEST_SECRET = 5
_SHORTEST_WORD = 12
"""A password such as `postgres` or `30000` is in texts that have nothing to do with it."""
_WORD = re.compile(r"[^\W\d]+(?:[-_.: ][^\W\d]+)*|[\d.:]+")
_PLACES = ("_FILE", "_PATH", "_DIR", "_HOST", "_URL")
"""Such a variable tells where something is, whatever else its name says: `PASSWORD_FILE`."""


def secrets_among(variables: Iterable[Variable]) -> tuple[str, ...]:
    """What must not be shown of these variables, the longest first, as it may stand in a text.

    That is a line of it, since texts are looked at line by line.
    """
    found: set[str] = set()
    for variable in variables:
        if password := password_in(variable.value):
            found.update(each for each in (password, unquote(password)) if _can_be_told(each))
        elif variable.is_secret and not variable.name.upper().endswith(_PLACES):
            found.update(line for line in variable.value.splitlines() if _can_be_told(line))
    return tuple(sorted({form for each in found for form in _forms(each)}, key=len, reverse=True))


def covered(text: str, secrets: Collection[str]) -> str:
    """A line of a program's own words, without the secrets that `secrets_among` found."""
    for secret in secrets:
        text = text.replace(secret, COVER)
    return without_passwords(text)


def _can_be_told(secret: str) -> bool:
    """Whether it stands out in a text: else any text would be full of covers."""
    is_common = _WORD.fullmatch(secret) is not None
    return len(secret) >= (_SHORTEST_WORD if is_common else _SHORTEST_SECRET)


def _forms(secret: str) -> Iterator[str]:
    """As it is, and as it is written in URLs, in JSON and in headers."""
    yield secret
    yield quote(secret, safe="", errors="surrogateescape")
    yield json.dumps(secret)[1:-1]
    yield b64encode(secret.encode("utf-8", "surrogateescape")).decode()
