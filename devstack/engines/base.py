"""What an engine is: a database or broker that devstack knows how to make, start and ask.

An engine makes a data folder once (`prepare`), says how its server is started (`command`), asks it
one real question (`query`) and how it is reached (`url`). It starts nothing itself: programs go
through the `StepRunner` that it is handed, the server through whoever takes its `EngineCommand`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from devstack.provision.tool import Tool
from devstack.steps import RunAs, StepRunner

Unprivileged = Literal["not needed", "user namespace", "nobody"]
"""How a server that refuses root is run here; `not needed` where we are not root ourselves."""

NOBODY = 65534


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One database or broker as the stack file wants it, with every value resolved."""

    service: str
    engine: str
    version: str | None = None
    user: str = ""
    """Empty: the server asks nobody who they are (MongoDB and NATS, as their images do)."""
    password: str = field(default="", repr=False)
    database: str = ""
    extensions: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    seeds: tuple[Path, ...] = ()
    """Files and folders, absolute."""
    jetstream: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """Where a data folder is made, and what the machine allows there."""

    data: Path
    """The wanted data folder (`.devstack/data/NAME`)."""
    templates: Path
    """The user's cache of fresh data folders that are cloned instead of made again."""
    unprivileged: Unprivileged
    stack_id: str


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A data folder that is whole, and the tool that may open it."""

    path: Path
    """Where it really lies; `Site.data` unless the server had to run as `nobody`."""
    data_id: str
    """Random, made with the folder: other data has another id."""
    tool: Tool
    run_as: RunAs
    is_new: bool
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> Path:
        """What the server itself reads and writes."""
        return self.path / "db"

    @property
    def run(self) -> Path:
        """For sockets and the like."""
        return self.path / "run"


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """How the server is started and asked to end."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    stop_signal: int
    run_as: RunAs


class EngineProblem(Exception):
    """Why an engine cannot do what was asked, with the next step for a person."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class CannotPrepare(EngineProblem):
    """A data folder could not be made; nothing half made is left."""


class DataVersionMismatch(EngineProblem):
    """The data was made by another product or major version, which alone may open it."""


class SeedFailed(EngineProblem):
    """A seed did not load; the data folder was not made."""

    def __init__(self, message: str, hint: str = "", *, file: Path, line: int | None) -> None:
        super().__init__(message, hint)
        self.file = file
        self.line = line


class NotReady(Exception):
    """The server did not answer a query; the reason is fit for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Engine(Protocol):
    """One kind of database or broker."""

    @property
    def name(self) -> str:
        """The word of the stack file's `engine:`."""
        ...

    @property
    def tool(self) -> str:
        """What provision is asked for."""
        ...

    @property
    def driver(self) -> str:
        """The module that `query` imports, which takes up to 0.1 s; empty where it needs none."""
        ...

    @property
    def default_port(self) -> int: ...

    @property
    def default_user(self) -> str:
        """Who its official image makes where nothing is said; empty: it asks nobody."""
        ...

    @property
    def scheme(self) -> str:
        """Of its URLs."""
        ...

    async def prepare(
        self, spec: EngineSpec, site: Site, tool: Tool, steps: StepRunner
    ) -> DataFolder:
        """Make the data folder, or find it whole; cheap where it is there.

        Raises `CannotPrepare`, `SeedFailed`, `DataVersionMismatch` or `StepFailed`.
        """
        ...

    def command(
        self, spec: EngineSpec, folder: DataFolder, address: str, port: int
    ) -> EngineCommand:
        """How to start the server on a prepared folder, listening there and nowhere else."""
        ...

    def clear_leftovers(self, folder: DataFolder) -> None:
        """Before each start: remove what a killed server left there and would refuse to start with."""
        ...

    def query(self, spec: EngineSpec, address: str, port: int, timeout: float) -> None:
        """Ask one real query as the spec's user; blocks. Raises `NotReady`."""
        ...

    def url(self, spec: EngineSpec, host: str, port: int) -> str:
        """How an application connects, password included."""
        ...


def program(tool: Tool, name: str) -> Path:
    """A program of the tool: named by provision, or beside one that is."""
    found = tool.binaries.get(name)
    if found is not None:
        return found
    for known in tool.binaries.values():
        for folder in (known.parent, known.resolve().parent):
            if (folder / name).exists():
                return folder / name
    raise CannotPrepare(
        f"cannot use {tool.name} {tool.version} from {tool.origin}: it has no {name}",
        f"install a complete {tool.name}, or take it off PATH to have one provisioned",
    )


def major_of(version: str, parts: int) -> str:
    """The first `parts` numbers of a version: 10.11 of 10.11.19."""
    return ".".join(version.split(".")[:parts])
