"""How prepare work is run and told: the one door through which provisioning, packs and engines start programs.

Only the keeper starts processes, so whoever prepares something is handed a `StepRunner` and never
forks. A step belongs to a service: its output is that service's build stream. Nothing here knows
of State, the controller or the keeper's protocol.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

RunAs = Literal["same", "unprivileged"]
"""`unprivileged` is for servers that refuse root: a user namespace, else `nobody`."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One state of something slow; the newest with the same title replaces earlier ones."""

    title: str
    done: float | None = None
    total: float | None = None
    unit: Literal["bytes", "steps"] = "steps"

    @property
    def is_finished(self) -> bool:
        return self.total is not None and self.done is not None and self.done >= self.total


@dataclass(frozen=True, slots=True)
class StepResult:
    """How a step ended: its exit code (negative: the signal) and the tail of its output."""

    code: int
    output: bytes


class StepFailed(Exception):
    """A step ended with another code than 0, could not be started, or ran out of time."""

    def __init__(self, title: str, argv: Sequence[str], reason: str, tail: str = "") -> None:
        super().__init__(f"cannot {title}: {reason}" + (f"\n{tail}" if tail else ""))
        self.title = title
        self.argv = tuple(argv)
        self.reason = reason
        self.tail = tail


class RunningStep(Protocol):
    """A helper program that runs while a step is made, such as the server that loads a seed."""

    @property
    def pid(self) -> int: ...

    async def stop(self, signal: int, grace_seconds: float = 10.0) -> StepResult:
        """Ask it to end with `signal`, kill it after the grace, and wait for the end.

        Asked again meanwhile, it gets the signal again and the grace begins anew.
        """
        ...

    async def wait(self) -> StepResult:
        """Wait until it ends by itself."""
        ...


class StepRunner(Protocol):
    """Runs the programs of one service's prepare step and tells how far they are."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        title: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        nice: int = 0,
        run_as: RunAs = "same",
        check: bool = True,
        timeout_seconds: float | None = None,
        stdin: Path | None = None,
    ) -> StepResult:
        """Run a program to its end; `env` is added to the caller's environment.

        `title` completes "cannot …" ("install packages", "build orders"). Raises `StepFailed`
        unless `check` is false. A cancelled wait kills the program.
        """
        ...

    async def start(
        self,
        argv: Sequence[str],
        *,
        title: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        run_as: RunAs = "same",
    ) -> RunningStep:
        """Start a program that is needed while preparing; the caller stops it in `finally`."""
        ...

    def report(self, progress: Progress) -> None:
        """Tell how far something is; cheap, may be called often."""
        ...
