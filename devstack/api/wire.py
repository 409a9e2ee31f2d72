"""What client and controller say to each other: one JSON object on each line, in both directions.

    client      {"hello": {"protocol", "version"}}
    controller  {"hello": {"protocol", "version", "pid", "stack_id", "logs", "lease"}}
    client      {"id": 1, "do": "scale", "service": "orders", "replicas": 3}
    controller  {"id": 1, "data": {…}}            any number of times
                {"id": 1, "end": {"exit_code": 0, "lines": ["…"]}}
                {"left": true}                    to the holder of the lease, when a newer one takes over

Requests of one connection run side by side. Every protocol answers `down`, so that one line can offer
it where two versions do not understand each other. Imported by each command: nothing slow.
"""

from __future__ import annotations

import json

PROTOCOL = 2
LONGEST_LINE = 8 << 20
"""A request carries the whole environment of a shell, which Linux limits to 2 MiB."""
MOST_REQUESTS = 64
"""Under way at once on one connection."""
LOCK_HELD = 4
"""Exit code of a controller that found another one holding the lock: its starter waits for that one."""

END_OF_LINE = b"\n"


class Malformed(ValueError):
    """A line that is no message."""


def encode(message: dict[str, object]) -> bytes:
    """One line. Text that is not UTF-8 (a file name, a variable) passes as it is."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape") + END_OF_LINE


def decode(line: bytes) -> dict[str, object]:
    """The message on a line; raises Malformed."""
    try:
        message = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as exc:
        raise Malformed("it is not JSON") from exc
    if not isinstance(message, dict):
        raise Malformed("it is not an object")
    return message


def is_newer(version: str, than: str) -> bool:
    """Whether one version of devstack comes after another."""
    return _numbers(version) > _numbers(than)


def _numbers(version: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
