"""The two kinds of runtime: one whose replicas we own, one that is only told how many.

A runtime turns ops into effects and tells what became of them; it holds no policy. Failures that a
person can cause are the exceptions below, and become events. Third-party SDKs live in the module of
their runtime and nowhere else.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from devstack.core.events import Artifact, Exit, ObservedReplica
from devstack.core.model import Service, Stop


class PrepareFailed(Exception):
    """The artifact could not be made; the message is for people, with file and line where known."""


class StartFailed(Exception):
    """A replica could not be started. `permanent`: trying again cannot help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class RuntimeUnavailable(Exception):
    """The runtime does not answer: no keeper, no engine, no cluster."""


@dataclass(frozen=True, slots=True)
class StartOrder:
    """Everything a runtime needs to fill a slot."""

    replica: str
    service: Service
    slot: int
    revision: str
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class Started:
    """What exists after a start."""

    pid: int | None
    addresses: tuple[tuple[str, str], ...]
    """Endpoint name → literal `IP:port` where the replica is expected to listen."""
    started_at: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class ReplicaEnd:
    """A replica is gone; told once, and again by `recover` until acknowledged."""

    replica: str
    exit: Exit
    left_behind: tuple[str, ...] = ()
    """Names of daemons it left, which were killed."""
    is_loss: bool = False


@dataclass(frozen=True, slots=True)
class Recovered:
    """A replica of an earlier controller."""

    replica: str
    service: str
    slot: int
    revision: str
    pid: int | None
    addresses: tuple[tuple[str, str], ...]
    started_at: float
    is_stopping: bool = False
    """It was asked to end."""


@dataclass(frozen=True, slots=True)
class RecoveredEnd:
    """A replica that ended while there was no controller to hear of it."""

    replica: Recovered
    """As it was; without a pid."""
    end: ReplicaEnd


@dataclass(frozen=True, slots=True)
class Recovery:
    """All that a runtime knows of this run without being told."""

    running: tuple[Recovered, ...] = ()
    ended: tuple[RecoveredEnd, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecPlan:
    """What a client is to run on its own terminal to be inside a replica."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"


@dataclass(frozen=True, slots=True)
class Stats:
    """What a replica uses now."""

    cpu_seconds: float
    memory_bytes: int
    processes: int


class ReplicaRuntime(Protocol):
    """Runs replicas of which every one is ours (process, docker)."""

    async def prepare(self, service: Service, revision: str) -> Artifact:
        """Make what the revision needs. Raises `PrepareFailed`, `RuntimeUnavailable`."""
        ...

    async def source_digest(self, service: Service) -> str:
        """Digest of the service's source now; empty where there is none."""
        ...

    async def start(self, order: StartOrder) -> Started:
        """Start a replica. Raises `StartFailed`, `RuntimeUnavailable`."""
        ...

    async def stop(self, replica: str, stop: Stop) -> None:
        """Ask a replica to end, and kill it after the grace; its end is told through `ends`."""
        ...

    def ends(self) -> AsyncIterator[ReplicaEnd]:
        """Ends of replicas as they happen; ends itself when the runtime is closed."""
        ...

    async def recover(self) -> Recovery:
        """What runs and what ended while nobody listened. Raises `RuntimeUnavailable`."""
        ...

    def acknowledge(self) -> None:
        """The ends heard so far are recorded: `recover` need not tell them to a next controller."""
        ...

    async def exec(self, replica: str, command: tuple[str, ...]) -> ExecPlan:
        """How to run a command beside a replica, in its view. Raises `RuntimeUnavailable`: it is gone."""
        ...

    async def stats(self) -> Mapping[str, Stats]:
        """What each running replica uses."""
        ...


class WorkloadRuntime(Protocol):
    """Tells a cluster how many replicas of what are wanted, and looks at what it made of that."""

    async def prepare(self, service: Service, revision: str) -> Artifact:
        """Make what the revision needs (an image). Raises `PrepareFailed`."""
        ...

    async def source_digest(self, service: Service) -> str:
        """Digest of the service's source now; empty where there is none."""
        ...

    async def apply(self, service: Service, revision: str, count: int) -> None:
        """Tell the cluster what is wanted. Raises `StartFailed`, `RuntimeUnavailable`."""
        ...

    def observe(self) -> AsyncIterator[tuple[str, tuple[ObservedReplica, ...]]]:
        """(service, all its replicas) whenever something changed."""
        ...

    async def remove(self, service: str) -> None:
        """Remove the workload and wait until it is gone. Raises `RuntimeUnavailable`."""
        ...

    async def exec(self, replica: str, command: tuple[str, ...]) -> ExecPlan:
        """How to run a command in a replica. Raises `RuntimeUnavailable`: it is gone."""
        ...
