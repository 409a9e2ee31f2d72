"""The words between controller and keeper: one JSON object per line, and their version.

    controller -> keeper   {"id": 7, "verb": "spawn", ...}
    keeper -> controller   {"id": 7, "ok": true, ...} | {"id": 7, "ok": false, "error": {...}}
                           {"event": "exit" | "left_behind" | "log_problem", ...}

Bytes that are not UTF-8 travel as lone surrogates. Descriptors (for `adopt`) come with the first
byte of their request's line, which says how many. A greeting of another protocol is answered and the
connection ended.
"""

from __future__ import annotations

import json

PROTOCOL = 2
LONGEST_LINE = 64 << 20
"""Well above the largest environment a kernel takes: E2BIG is the kernel's to say."""

HELLO = "hello"
SPAWN = "spawn"
SIGNAL = "signal"
STOP = "stop"
KILL = "kill"
LIST = "list"
ACK = "ack"
ADOPT = "adopt"
ON_LOSS = "on_loss"
MODE = "mode"
DESCENDANTS = "descendants"
SHUTDOWN = "shutdown"

EXIT = "exit"
LEFT_BEHIND = "left_behind"
LOG_PROBLEM = "log_problem"

STEP_PREFIXES = ("prepare:", "probe:")
"""Keys of processes that mean nothing without the controller that waits for them."""


def encode(message: dict[str, object]) -> bytes:
    """A message as its line."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, object]:
    """The message of a line; raises ValueError for anything else."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message is an object")
    return message


def to_text(data: bytes) -> str:
    """Bytes as text that comes back unchanged from `to_bytes`."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The bytes behind a text."""
    return text.encode("utf-8", "surrogateescape")
