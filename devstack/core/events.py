"""Events: facts, in the past tense, each with the monotonic time at which it was recorded.

Everything that changes State is one of these. Expected failures are events with the message a person
will read. Intents (`…Requested`, `PrepareStarted`) are recorded before the op of the same meaning runs,
so that State never lags behind what has been set in motion (law 1).
"""

from dataclasses import dataclass

from devstack.core.model import Stack
from devstack.core.routes import RoutingTable

_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS"} | {
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    13: "SIGPIPE",
    15: "SIGTERM",
}
"""Names of signal(7) that end programs, for messages; numbers as on Linux."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How an execution ended."""

    code: int | None
    signal: int | None = None
    message: str = ""
    """What a person should know beyond the code: `killed by SIGKILL`, `not ready within 120 s`."""
    tail: tuple[str, ...] = ()
    """The last lines it wrote, at most twenty; kept for failures only."""
    wall: float = 0.0
    """Unix time."""

    @property
    def is_success(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        if self.message:
            return self.message
        if self.signal:
            return f"killed by {_SIGNALS.get(self.signal, f'signal {self.signal}')}"
        return f"exited with code {self.code}"


@dataclass(frozen=True, slots=True)
class Attempts:
    """How replicas of one revision fared in a slot."""

    revision: str | None = None
    failures: int = 0
    """In a row."""
    retry_at: float = 0.0
    blocked: str = ""
    """Why it will not be tried again; forgotten with the next revision or `up`."""
    finished: bool = False
    """It ended as it should and is not to be filled again (`restart: on-failure` and code 0)."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What outlives the replicas of (service, index)."""

    started: int = 0
    """How many replicas it has had; the number in `orders.1#7`."""
    newest: Attempts = Attempts()
    """Of the desired revision; another one starts afresh."""
    older: Attempts = Attempts()
    """Of a revision that stands in while the desired one fails: each waits for its own."""
    last_exit: Exit | None = None
    restarts: int = 0
    """How many of its replicas ended though nobody asked for it, and are followed by another."""

    def attempts(self, revision: str | None) -> Attempts:
        """How replicas of this revision fared here; a revision never tried starts afresh."""
        if revision is not None and self.newest.revision == revision:
            return self.newest
        return self.older if self.older.revision == revision else Attempts(revision)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a replica was when its controller was last heard of: what no runtime can tell."""

    requested_at: float | None = None
    """CLOCK_MONOTONIC; None when nothing is known of the replica."""
    startup_passed: bool = False
    ready: bool = False
    was_ready: bool = False
    ready_at: float | None = None
    draining: bool = False
    drained: bool = False
    stopping: bool = False
    stop_cause: str = ""
    stop_is_failure: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """What a cluster was last told."""

    revision: str = ""
    count: int = -1
    applying: bool = False
    removing: bool = False
    exists: bool = False
    failures: int = 0
    retry_at: float = 0.0
    error: str = ""
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Artifact:
    """What prepare made, as far as decisions depend on it; the runtime knows the rest by digest."""

    digest: str
    is_compiled: bool = False
    """A replica runs from the artifact alone, so an older revision can still be started."""
    data_id: str | None = None
    """Identity of a database's data folder: another one runs jobs again."""
    notes: tuple[str, ...] = ()
    """What was found and chosen, for whoever asks `why`: toolchains, the start command."""
    warnings: tuple[str, ...] = ()
    """What a user must know: a stand-in and its gaps."""


@dataclass(frozen=True, slots=True)
class ObservedReplica:
    """A replica that a cluster created; devstack only looks at it."""

    id: str
    ready: bool
    address: str | None = None
    reason: str = ""
    restarts: int = 0
    started_at: float | None = None


@dataclass(frozen=True, slots=True)
class GatewayShape:
    """Which services, routes and slots exist: all of a gateway configuration but the addresses."""

    public: bool = False
    port: int = 0
    routes: tuple[tuple[str, str, bool, float | None, bool], ...] = ()
    slots: tuple[tuple[str, int], ...] = ()
    """Balanced service → number of slots with upstream blocks, sorted by name."""
    endpoints: tuple[tuple[str, tuple[tuple[str, int, str], ...]], ...] = ()
    """Balanced service → its endpoints, fixed ones aside (name, dialled port, scheme)."""
    fixed: tuple[tuple[str, int], ...] = ()
    """Routing key of a fixed port → that port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events; `at` is CLOCK_MONOTONIC in seconds."""

    at: float = 0.0


# ── what people and files ask for ──────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StackApplied(Event):
    """A valid stack file was loaded; the new desired state. Forgets failures that were for good."""

    stack: Stack
    sources: tuple[tuple[str, str], ...] = ()
    """Service → digest of its source at load."""


@dataclass(frozen=True, slots=True)
class SourceChanged(Event):
    """The source of a service has another digest than the one known."""

    service: str
    digest: str
    found_at_start: bool = False
    """By starting a replica, and not because somebody asked: no reason to forget failures."""


@dataclass(frozen=True, slots=True)
class RestartRequested(Event):
    """Somebody wants new replicas of a service, changed or not."""

    service: str


@dataclass(frozen=True, slots=True)
class ScaleRequested(Event):
    """An override of the number of replicas; None goes back to the stack file's."""

    service: str
    replicas: int | None


@dataclass(frozen=True, slots=True)
class StopRequested(Event):
    """An override: the service is to be down until started again."""

    service: str


@dataclass(frozen=True, slots=True)
class StartRequested(Event):
    """Ends the override of `StopRequested`."""

    service: str


@dataclass(frozen=True, slots=True)
class DownRequested(Event):
    """The whole stack is to end."""

    cause: str = "down"


# ── prepare ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PrepareStarted(Event):
    """Intent: the artifact of a revision is being made."""

    service: str
    revision: str


@dataclass(frozen=True, slots=True)
class PrepareSucceeded(Event):
    """The artifact is whole; the revision becomes the desired one."""

    service: str
    revision: str
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class PrepareFailed(Event):
    """The artifact could not be made; older replicas go on serving."""

    service: str
    revision: str
    message: str


@dataclass(frozen=True, slots=True)
class PrepareCancelRequested(Event):
    """Intent: what makes the artifact is being killed, since nobody wants it any more."""

    service: str
    revision: str
    cause: str


@dataclass(frozen=True, slots=True)
class PrepareAbandoned(Event):
    """It was cut short, cancelled or with its keeper or controller: what is wanted is planned again."""

    service: str
    revision: str


@dataclass(frozen=True, slots=True)
class DataReset(Event):
    """The data folder of a database was removed; it must be prepared again."""

    service: str


# ── replicas ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ReplicaStartRequested(Event):
    """Intent: a replica is being started in a slot."""

    replica: str
    service: str
    slot: int
    revision: str
    cause: str


@dataclass(frozen=True, slots=True)
class ReplicaSpawned(Event):
    """The process (or container) exists."""

    replica: str
    pid: int | None
    addresses: tuple[tuple[str, str], ...] = ()
    """Endpoint name → literal `IP:port`."""
    started_at: float = 0.0
    """Unix time."""
    has_startup_probe: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaStartFailed(Event):
    """The replica could not be started at all."""

    replica: str
    message: str
    permanent: bool
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class ReplicaAdopted(Event):
    """A replica of an earlier controller was found: it runs, or its end is the next event."""

    replica: str
    service: str
    slot: int | None
    revision: str
    pid: int | None
    addresses: tuple[tuple[str, str], ...] = ()
    started_at: float = 0.0
    is_stopping: bool = False
    """Its runtime was told to end it."""


@dataclass(frozen=True, slots=True)
class StartupPassed(Event):
    """The startup probe passed: the replica is RUNNING."""

    replica: str


@dataclass(frozen=True, slots=True)
class ReadinessChanged(Event):
    """The readiness condition changed, or the reason why it is not ready did."""

    replica: str
    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaListens(Event):
    """The replica listens at other literal addresses than it was started for ([::1], a socket)."""

    replica: str
    addresses: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class LivenessFailed(Event):
    """The liveness probe failed as often as it may."""

    replica: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaWarned(Event):
    """Something about a replica that a person should read: a listener beyond loopback, a daemon."""

    replica: str
    message: str


@dataclass(frozen=True, slots=True)
class ReplicaDrainRequested(Event):
    """Intent: no new requests reach the replica; its connections are being waited for."""

    replica: str
    cause: str


@dataclass(frozen=True, slots=True)
class ReplicaDrained(Event):
    """No connection to the replica is left, or its grace is over."""

    replica: str


@dataclass(frozen=True, slots=True)
class ReplicaStopRequested(Event):
    """Intent: the replica is being asked to end."""

    replica: str
    cause: str
    is_failure: bool = False
    """The stop is the consequence of a failure of the replica's own (liveness, never ready)."""


@dataclass(frozen=True, slots=True)
class ReplicaExited(Event):
    """The replica is gone."""

    replica: str
    exit: Exit
    jitter: float = 0.0
    """Drawn when the exit is recorded, in -1…1."""
    is_loss: bool = False
    """It ended because what ran it did (the keeper): no failure of its own, filled again at once."""


@dataclass(frozen=True, slots=True)
class ReplicaStartSkipped(Event):
    """The start was given up before anything ran, since the source is newer than the revision."""

    replica: str


# ── jobs ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class JobRecalled(Event):
    """A job is known to have completed before, for these keys (revision and data folders)."""

    service: str
    keys: tuple[str, ...]


# ── gateway ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class RoutesRequested(Event):
    """Intent: the routing table is being replaced."""

    table: RoutingTable


@dataclass(frozen=True, slots=True)
class RoutesApplied(Event):
    """The table is in force for the next request of every connection."""

    table: RoutingTable


@dataclass(frozen=True, slots=True)
class RoutesFailed(Event):
    """The table could not be replaced; the one before it is still in force."""

    message: str


@dataclass(frozen=True, slots=True)
class GatewayLoadRequested(Event):
    """Intent: NGINX is being given another configuration."""

    shape: GatewayShape


@dataclass(frozen=True, slots=True)
class GatewayLoaded(Event):
    """The configuration is the one that answers."""

    shape: GatewayShape
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayLoadFailed(Event):
    """The configuration was refused; the one before it still answers."""

    shape: GatewayShape
    message: str


# ── workloads (a cluster owns the replicas) ────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class WorkloadApplyRequested(Event):
    """Intent: a workload is being applied."""

    service: str
    revision: str
    count: int


@dataclass(frozen=True, slots=True)
class WorkloadApplied(Event):
    """The cluster accepted the workload."""

    service: str
    revision: str
    count: int


@dataclass(frozen=True, slots=True)
class WorkloadFailed(Event):
    """The cluster refused; tried again after a back-off unless permanent."""

    service: str
    message: str
    permanent: bool = False
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkloadObserved(Event):
    """All replicas of a workload as the cluster shows them now; never the cause of an op."""

    service: str
    replicas: tuple[ObservedReplica, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkloadRemoveRequested(Event):
    """Intent: a workload is being removed."""

    service: str


@dataclass(frozen=True, slots=True)
class WorkloadRemoved(Event):
    """The workload is gone from the cluster."""

    service: str


# ── the machinery ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class RuntimeLost(Event):
    """A runtime does not answer: what it runs is unknown."""

    runtime: str
    reason: str


@dataclass(frozen=True, slots=True)
class RuntimeFound(Event):
    """A runtime answers (again)."""

    runtime: str


@dataclass(frozen=True, slots=True)
class Noted(Event):
    """One line for people that changes nothing: a stand-in, an adoption, a swept process."""

    text: str
    service: str | None = None


@dataclass(frozen=True, slots=True)
class Restored(Event):
    """What a snapshot of an earlier controller knew about one service."""

    service: str
    desired: str | None = None
    good: str | None = None
    artifact: Artifact | None = None
    good_artifact: Artifact | None = None
    restart_count: int = 0
    override_replicas: int | None = None
    override_stopped: bool = False
    prepare_error: tuple[str, str] | None = None
    rollout_error: tuple[str, str] | None = None
    warnings: tuple[str, ...] = ()
    ready_changes: tuple[float, ...] = ()
    waiting_since: float | None = None
    slots: tuple[tuple[int, Slot], ...] = ()
    replicas: tuple[tuple[str, Standing], ...] = ()
    """By id; which of them are still there is known from the runtime alone."""
    workload: Workload = Workload()
