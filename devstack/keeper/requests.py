"""What a controller asks the keeper for, as values, and how each goes over the wire."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["attached", "detached"]
Role = Literal["controller", "observer"]
Stream = Literal["output", "stdout", "stderr", "build"]


@dataclass(frozen=True, slots=True)
class View:
    """How a process sees the machine; what is left out is as on the host."""

    hosts: str | None = None
    """The content of its own /etc/hosts."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Name to source file; each shows as /run/secrets/NAME, read-only."""
    as_user: Literal["same", "unprivileged"] = "same"
    """`unprivileged` is for servers that refuse root; as another user it changes nothing."""

    def to_wire(self) -> dict[str, object]:
        return {"hosts": self.hosts, "secrets": dict(self.secrets), "as_user": self.as_user}


@dataclass(frozen=True, slots=True)
class LogTarget:
    """The log that takes a process's output: see `devstack.logs.writer`."""

    folder: str
    name: str
    stream: Stream = "output"

    def to_wire(self) -> dict[str, object]:
        return {"folder": self.folder, "name": self.name, "stream": self.stream}


@dataclass(frozen=True, slots=True)
class SpawnSpec:
    """One process to start. Keys that begin with `prepare:` or `probe:` end with their controller."""

    key: str
    group: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    log: LogTarget | None = None
    """None: the output is captured and comes with the exit."""
    view: View | None = None
    nice: int = 0
    stdin: str = os.devnull
    capture_bytes: int | None = None
    """How much of the end of the output comes with the exit; None: 64 KiB without a log, else 0."""
    meta: str = ""
    """A note of the controller's own, given back by `list` and with the exit."""

    def to_wire(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "key": self.key,
            "group": self.group,
            "argv": list(self.argv),
            "env": dict(self.env),
            "cwd": self.cwd,
            "nice": self.nice,
            "stdin": self.stdin,
            "meta": self.meta,
        }
        if self.log is not None:
            fields["log"] = self.log.to_wire()
        if self.capture_bytes is not None:
            fields["capture_bytes"] = self.capture_bytes
        if self.view is not None:
            fields["view"] = self.view.to_wire()
        return fields


@dataclass(frozen=True, slots=True)
class Command:
    """A program that the keeper starts on its own: the next controller, or the last clean-up."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    output: str = os.devnull
    """A file to append what it says to."""
    given: str = ""
    """What the next controller reads from its standard input; kept in memory, never in a file."""

    def to_wire(self) -> dict[str, object]:
        return {
            "argv": list(self.argv),
            "env": dict(self.env),
            "cwd": self.cwd,
            "output": self.output,
            "given": self.given,
        }
