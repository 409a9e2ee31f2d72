"""What the control socket offers, as the server sees the engine: one method for each thing people do.

The engine implements it; the server only translates. Methods that change something return when it is
so (or cannot be), with an `Outcome` that says what to print and which exit code the command ends with.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from devstack.core.model import Stack
from devstack.core.ops import Plan
from devstack.core.state import State
from devstack.steps import Progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command went."""

    exit_code: int = 0
    lines: tuple[str, ...] = ()
    """For stderr when the code is not 0, else for stdout."""

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


@dataclass(frozen=True, slots=True)
class Told:
    """One line of what happens, for `up` and the like; kinds are for colour only."""

    service: str | None
    text: str
    kind: str = "info"
    """info, good, bad"""
    progress: Progress | None = None
    """Set for something slow: redraw in place, the newest for a (service, title) counts."""


@dataclass(frozen=True, slots=True)
class UpRequest:
    """What a client sends with `up`: the file is read where its problems are told."""

    stack: Stack
    environment: Mapping[str, str]
    """The client's whole environment."""
    offline: bool = False


@dataclass(frozen=True, slots=True)
class EnvLine:
    """One variable of a service, masked where it is a secret."""

    name: str
    value: str
    origin: str
    overrides: tuple[str, ...]


class Control(Protocol):
    """See the module's docstring."""

    @property
    def state(self) -> State: ...

    @property
    def plan(self) -> Plan: ...

    @property
    def now(self) -> float:
        """CLOCK_MONOTONIC, for views."""
        ...

    @property
    def logs(self) -> Path:
        """Root of the log store."""
        ...

    def gateway_url(self) -> str | None: ...

    def url(self, service: str) -> str | None:
        """Stable address of a service for programs on the host; password left out."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Lines about the whole stack: how names are had, listeners beyond loopback, root."""
        ...

    async def up(self, request: UpRequest) -> Outcome:
        """Make a stack the wanted one.

        Returns as soon as State has it; `follow` and `wait_settled` tell the rest.
        """
        ...

    async def wait_settled(self, timeout_seconds: float) -> Outcome:
        """Return 0 when all is ready, 1 with the reasons once something failed for good or time is up."""
        ...

    async def scale(
        self, service: str, replicas: int | None, *, wait: bool, timeout_seconds: float
    ) -> Outcome:
        """None goes back to the file's number."""
        ...

    async def restart(self, service: str, *, wait: bool, timeout_seconds: float) -> Outcome: ...

    async def stop(self, service: str, *, wait: bool, timeout_seconds: float) -> Outcome: ...

    async def start(self, service: str, *, wait: bool, timeout_seconds: float) -> Outcome: ...

    async def reset(self, database: str, *, timeout_seconds: float) -> Outcome:
        """Drop a database's data and make it anew (seeds included)."""
        ...

    async def down(self, *, volumes: bool) -> Outcome:
        """Stop everything, dependents first; the controller ends after the answer."""
        ...

    def leave(self) -> None:
        """A newer client replaces this controller: end and leave everything running for the next one."""
        ...

    def kill_all(self) -> None:
        """Second Ctrl-C: SIGKILL for everything, now."""
        ...

    def why(self, service: str) -> tuple[str, ...]:
        """Lines that say what a service is waiting for or why it failed, last words included."""
        ...

    def env(self, service: str) -> tuple[EnvLine, ...]: ...

    def follow(self) -> AsyncIterator[Told]:
        """What happens from now on, as lines for people, until the controller ends."""
        ...

    def hold_lease(self) -> None:
        """An attached `up` is there: the stack ends with it."""
        ...

    def release_lease(self, *, lost: bool) -> None:
        """The attached client is gone (`lost`: without asking for anything): the stack goes down."""
        ...

    def detach(self) -> None:
        """`up -d`: the stack lives without any client."""
        ...
