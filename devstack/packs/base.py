"""What a language pack answers: what a folder is, how it is prepared, and how it is started.

A pack reads a folder and never executes it while detecting. What prepare makes goes into new
folders below the ones it is given (`deps`, `build`), made under a temporary name and renamed when
whole; nothing a running replica uses is ever written, and nothing is written into the source.
Packs know nothing of the sample.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from devstack.steps import StepRunner


class Toolchain(Protocol):
    """An interpreter, compiler or package manager that was found or provisioned."""

    @property
    def version(self) -> str: ...

    @property
    def origin(self) -> str:
        """Where it comes from, in a word a user reads ("PATH", "wheel")."""
        ...

    @property
    def binaries(self) -> Mapping[str, Path]: ...

    @property
    def env(self) -> Mapping[str, str]: ...


FindTool = Callable[[str, str | None], Awaitable[Toolchain]]
"""Asks for a toolchain ("go", "node", "uv", "python") and, where one is needed, a version."""


@dataclass(frozen=True, slots=True)
class Command:
    """How a replica is started. `$PORT`-like values are not resolved here: the engine adds them.

    In `argv`, the texts `{port}` and `{host}` stand for the replica's own, `{grace}` for the seconds
    between its stop signal and SIGKILL, and `{{` and `}}` for braces.
    """

    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Below the user's own values: a user's `environment` entry of the same name wins."""
    path_prefix: tuple[Path, ...] = ()
    """Folders put in front of PATH (the toolchain, a virtual environment's `bin`)."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An artifact: what one preparation of a source made."""

    digest: str
    """Names the artifact; the same manifest, lock, toolchain and source give the same digest."""
    command: Command | None
    """The start command found by the pack; None where the stack file must name one."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For a `command` of the user's: what makes it find the artifact (PATH additions aside)."""
    path_prefix: tuple[Path, ...] = ()
    paths: tuple[Path, ...] = ()
    """Folders and files that must be kept while this artifact may run."""
    notes: tuple[str, ...] = ()
    """Lines a user should read once: which toolchain was used, what was guessed."""
    needs_source: bool = True
    """False where replicas run from the artifact alone: no source hash before each start."""


@dataclass(frozen=True, slots=True)
class PrepareRequest:
    """Everything a pack may use for one preparation."""

    service: str
    source: Path
    user_command: tuple[str, ...] | str | None
    """The stack file's `command`, which always wins (list: no shell; string: a shell)."""
    main: str | None
    """Which of several programs is meant: a Go main package (`./cmd/api`), a Python
    `package.module:attribute` or script, a Node file."""
    deps: Path
    build: Path
    cache: Path
    """Per-user cache, shared by all stacks (Go build cache, uv and npm caches)."""
    revision: str
    environment: Mapping[str, str]
    """The environment of whoever ran `up`; toolchains and package managers read their settings there."""
    offline: bool = False


class CannotPrepare(Exception):
    """The source cannot be prepared; the message names file and line where they are known."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Pack(Protocol):
    """One language."""

    name: str

    def matches(self, source: Path) -> bool:
        """Whether the folder is of this language, by its files alone."""
        ...

    def manifest_files(self, source: Path) -> tuple[Path, ...]:
        """Files whose change needs new dependencies (requirements, go.mod, lock files)."""
        ...

    def source_files(self, source: Path) -> tuple[Path, ...]:
        """Files that belong to the source digest, pruned of dependency and build folders."""
        ...

    @property
    def is_compiled(self) -> bool:
        """Whether replicas usually run from the artifact alone; `Prepared.needs_source` decides."""
        ...

    async def prepare(self, request: PrepareRequest, steps: StepRunner) -> Prepared:
        """Make the artifact. Raises `CannotPrepare` or `StepFailed`."""
        ...
