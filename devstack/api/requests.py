"""One request of a client: its arguments, read strictly, and the way back.

What is done about it is `answers`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from devstack.core.plain import NotPlain, from_plain

T = TypeVar("T")


class BadRequest(Exception):
    """A request that makes no sense; the message is for whoever wrote the client."""


class Lessee(Protocol):
    """A connection as far as the lease is concerned."""

    holds_lease: bool
    asked_to_end: bool


@dataclass(frozen=True, slots=True)
class Request:
    """See the module's docstring."""

    do: str
    message: Mapping[str, Any]
    lessee: Lessee
    tell: Callable[[Mapping[str, Any]], Awaitable[None]]
    """Send a piece of the answer; waits while the client does not read."""

    def text(self, key: str) -> str:
        value = self.message.get(key)
        if not isinstance(value, str):
            raise BadRequest(f"'{key}' must be a text")
        return value

    def value(self, key: str, kind: type[T]) -> T:
        """A value of the model."""
        try:
            return from_plain(self.message.get(key), kind)
        except NotPlain as error:
            raise BadRequest(f"'{key}' is no {kind.__name__}: {error}") from error

    def flag(self, key: str) -> bool:
        value = self.message.get(key, False)
        if not isinstance(value, bool):
            raise BadRequest(f"'{key}' must be true or false")
        return value

    def seconds(self, key: str, usual: float) -> float:
        value = self.message.get(key, usual)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise BadRequest(f"'{key}' must be a number above 0")
        return float(value)

    def count(self, key: str) -> int | None:
        value = self.message.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BadRequest(f"'{key}' must be a whole number from 0, or null")
        return value

    def texts(self, key: str) -> dict[str, str]:
        value = self.message.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise BadRequest(f"'{key}' must be an object of texts")
        return dict(value)
