"""What the keeper tells a controller, as values, and how each is read from the wire."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from devstack.keeper import protocol
from devstack.keeper.requests import Mode


@dataclass(frozen=True, slots=True)
class Process:
    """A process that runs; pid and start time together name it for good."""

    key: str
    group: str
    pid: int
    start_time: int
    """Clock ticks since boot, field 22 of /proc/PID/stat."""
    started_at: float
    """Wall time."""
    is_stopping: bool = False
    meta: str = ""

    @classmethod
    def from_wire(cls, fields: Mapping[str, object]) -> Self:
        return cls(
            _text(fields, "key"),
            _text(fields, "group"),
            _number(fields, "pid"),
            _number(fields, "start_time"),
            _float(fields, "started_at"),
            fields.get("stopping") is True,
            str(fields.get("meta", "")),
        )


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; kept by the keeper until acknowledged."""

    key: str
    group: str
    pid: int
    code: int | None
    signal: int | None
    """Both None: an adopted process whose own parent took its exit code."""
    at: float
    """CLOCK_MONOTONIC."""
    output: bytes
    left_behind: tuple[str, ...]
    """`name[pid]` of daemons that live on; they are killed 2 s after the exit."""
    meta: str = ""
    """What the controller had noted on the process; empty from a keeper that does not tell."""

    @classmethod
    def from_wire(cls, fields: Mapping[str, object]) -> Self:
        code, number = fields.get("code"), fields.get("signal")
        return cls(
            _text(fields, "key"),
            _text(fields, "group"),
            _number(fields, "pid"),
            code if isinstance(code, int) else None,
            number if isinstance(number, int) else None,
            _float(fields, "at"),
            protocol.to_bytes(_text(fields, "output")),
            names(fields, "left_behind"),
            str(fields.get("meta", "")),
        )


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What became of what an ended process had left behind."""

    key: str
    group: str
    killed: tuple[str, ...]
    """Gone now."""
    still_there: tuple[str, ...] = ()
    """Could not be killed; tried again as the run ends."""

    @classmethod
    def from_wire(cls, fields: Mapping[str, object]) -> Self:
        return cls(
            _text(fields, "key"),
            _text(fields, "group"),
            names(fields, "killed"),
            names(fields, "still_there") if "still_there" in fields else (),
        )


@dataclass(frozen=True, slots=True)
class LogProblem:
    """A log cannot be written (`problem` says why), or can be written again (None)."""

    folder: str
    name: str
    problem: str | None
    dropped_bytes: int

    @classmethod
    def from_wire(cls, fields: Mapping[str, object]) -> Self:
        problem = fields.get("problem")
        return cls(
            _text(fields, "folder"),
            _text(fields, "name"),
            problem if isinstance(problem, str) else None,
            _number(fields, "dropped"),
        )


Notice = LeftBehind | LogProblem


@dataclass(frozen=True, slots=True)
class Listing:
    """What the keeper has: with the snapshot, all that a new controller needs."""

    processes: tuple[Process, ...]
    exits: tuple[Exit, ...]
    mode: Mode
    has_controller: bool
    has_on_loss: bool

    @classmethod
    def from_wire(cls, fields: Mapping[str, object]) -> Self:
        return cls(
            tuple(map(Process.from_wire, _objects(fields, "processes"))),
            tuple(map(Exit.from_wire, _objects(fields, "exits"))),
            "detached" if fields.get("mode") == "detached" else "attached",
            fields.get("has_controller") is True,
            fields.get("has_on_loss") is True,
        )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the system allows, tried by the keeper at its start."""

    hosts: bool
    hosts_how: str
    """`mount namespace`, `user+mount namespace`, or why names cannot be had."""
    secrets: bool
    secrets_how: str
    unprivileged: str
    """`user namespace`, `nobody`, `not root`, or why servers cannot be given another user."""

    @classmethod
    def from_wire(cls, fields: Mapping[str, object]) -> Self:
        return cls(
            hosts=fields.get("hosts") is True,
            hosts_how=_text(fields, "hosts_how"),
            secrets=fields.get("secrets") is True,
            secrets_how=_text(fields, "secrets_how"),
            unprivileged=_text(fields, "unprivileged"),
        )


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the keeper said of itself."""

    protocol: int
    version: str
    run_id: str
    pid: int
    warden: int
    started_at: float
    capabilities: Capabilities
    has_limit_mark: bool

    @classmethod
    def from_wire(cls, fields: Mapping[str, object]) -> Self:
        capabilities = fields.get("capabilities")
        assert isinstance(capabilities, dict)
        return cls(
            protocol=_number(fields, "protocol"),
            version=_text(fields, "version"),
            run_id=_text(fields, "run_id"),
            pid=_number(fields, "pid"),
            warden=_number(fields, "warden"),
            started_at=_float(fields, "started_at"),
            capabilities=Capabilities.from_wire(capabilities),
            has_limit_mark=fields.get("has_limit_mark") is True,
        )


def pids(fields: Mapping[str, object]) -> frozenset[int]:
    value = fields.get("pids")
    assert isinstance(value, list)
    return frozenset(value)


def names(fields: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    assert isinstance(value, list), name
    return tuple(map(str, value))


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    assert isinstance(value, str), name
    return value


def _number(fields: Mapping[str, object], name: str) -> int:
    value = fields.get(name)
    assert isinstance(value, int), name
    return value


def _float(fields: Mapping[str, object], name: str) -> float:
    value = fields.get(name)
    assert isinstance(value, int | float), name
    return float(value)


def _objects(fields: Mapping[str, object], name: str) -> list[dict[str, object]]:
    value = fields.get(name)
    assert isinstance(value, list), name
    return value
