"""What a stack is: the validated, lowered and frozen form of one `stack.yaml`.

A `Stack` says what people want and nothing about what runs; that is `state`. A database, the broker
and the gateway are Services with a preset like any other.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

from devstack.core.plain import to_plain
from devstack.core.routes import Route
from devstack.core.template import Template

GATEWAY = "gateway"
"""Name of the reserved Service: the one NGINX of a stack."""


class Kind(StrEnum):
    """What a Service is to its user."""

    SERVICE = "service"
    DATABASE = "database"
    BROKER = "broker"
    GATEWAY = "gateway"
    JOB = "job"


class Condition(StrEnum):
    """What a dependent waits for: RUNNING, ready, or a job that ended with code 0."""

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"


class Restart(StrEnum):
    """When an ended replica is replaced."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class Update(StrEnum):
    """How replicas of an old revision are replaced."""

    ROLLING = "rolling"
    RECREATE = "recreate"


class Scheme(StrEnum):
    """What is spoken at an endpoint."""

    HTTP = "http"
    GRPC = "grpc"
    TCP = "tcp"


class RuntimeName(StrEnum):
    """Who runs the replicas of a service."""

    PROCESS = "process"
    DOCKER = "docker"
    KUBERNETES = "kubernetes"
    FAKE = "fake"
    FAKE_WORKLOAD = "fake-workload"

    @property
    def owns_replicas(self) -> bool:
        """Whether devstack creates each replica, or a cluster does and is only observed."""
        return self not in (RuntimeName.KUBERNETES, RuntimeName.FAKE_WORKLOAD)


@dataclass(frozen=True, slots=True)
class Dependency:
    """Another service that must be so far before this one starts."""

    service: str
    condition: Condition

    def __str__(self) -> str:
        return f"{self.service} ({self.condition})"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A declared port: the number callers dial."""

    name: str
    port: int
    scheme: Scheme = Scheme.HTTP
    fixed: bool = False
    """The program cannot be told its port and listens on this very number."""


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """A command line for `/bin/sh -c`."""

    text: Template


@dataclass(frozen=True, slots=True)
class ArgvCommand:
    """A program and its arguments, passed on as they are."""

    argv: tuple[Template, ...]


Command = ShellCommand | ArgvCommand


@dataclass(frozen=True, slots=True)
class SourceProgram:
    """A program that is started from a folder: by its language's pack, or by `command`."""

    source: str | None
    """Absolute path; None for a command without a source, which runs in the stack file's folder."""
    command: Command | None = None
    main: str | None = None
    """Which of several programs of the source is meant (`./cmd/api`)."""


@dataclass(frozen=True, slots=True)
class EngineProgram:
    """A database, broker or gateway that devstack knows how to run."""

    engine: str
    """postgres, mysql, mongodb, nats, nginx."""
    version: str | None = None
    user: str | None = None
    password: Template | None = None
    """None: generated once for the checkout."""
    database: str | None = None
    extensions: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    seed: tuple[str, ...] = ()
    """Absolute paths of files and folders."""
    jetstream: bool = False


@dataclass(frozen=True, slots=True)
class FakeProgram:
    """A scripted program of the `fake` runtimes."""

    script: str = ""


Program = SourceProgram | EngineProgram | FakeProgram


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """Passes on a status below 400."""

    path: str
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Passes when a connection is accepted."""

    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class ExecProbe:
    """Passes when a program, started as the replica is, ends with code 0."""

    command: Command


@dataclass(frozen=True, slots=True)
class LogProbe:
    """Passes once a line that matches has been written by the replica; stays passed."""

    pattern: str


@dataclass(frozen=True, slots=True)
class QueryProbe:
    """Passes when the engine answers a query in its own protocol."""


@dataclass(frozen=True, slots=True)
class ListenProbe:
    """Passes when the replica's ports listen and the listeners are its own processes."""


@dataclass(frozen=True, slots=True)
class UptimeProbe:
    """Passes when the replica has lived this long: for workers that offer nothing to ask."""

    seconds: float = 1.0


Probe = HttpProbe | TcpProbe | ExecProbe | LogProbe | QueryProbe | ListenProbe | UptimeProbe


@dataclass(frozen=True, slots=True)
class Check:
    """A probe and how often, how long and how many results in a row count (kubelet's words)."""

    probe: Probe
    interval_seconds: float = 2.0
    timeout_seconds: float = 1.0
    failures: int = 3
    successes: int = 1


@dataclass(frozen=True, slots=True)
class Stop:
    """How a replica is asked to end, and how long it may take before SIGKILL."""

    signal: str = "TERM"
    grace_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """A named thing with replicas."""

    name: str
    kind: Kind
    program: Program
    runtime: RuntimeName = RuntimeName.PROCESS
    replicas: int = 1
    endpoints: tuple[Endpoint, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    environment: tuple[tuple[str, Template], ...] = ()
    env_file: tuple[tuple[str, str], ...] = ()
    """Names and values of the `env_file`s, merged in order."""
    restart: Restart = Restart.ON_FAILURE
    update: Update = Update.ROLLING
    stop: Stop = Stop()
    startup: Check | None = None
    ready: Check = Check(UptimeProbe())
    alive: Check | None = None
    start_timeout_seconds: float = 120.0
    where: str = ""
    """`stack.yaml:12`, for messages; not part of the revision."""

    @property
    def is_job(self) -> bool:
        return self.kind is Kind.JOB

    @property
    def main_endpoint(self) -> Endpoint | None:
        return self.endpoints[0] if self.endpoints else None

    @property
    def has_fixed_port(self) -> bool:
        return any(endpoint.fixed for endpoint in self.endpoints)

    @property
    def is_engine(self) -> bool:
        return isinstance(self.program, EngineProgram)

    @property
    def balanced_endpoints(self) -> tuple[Endpoint, ...]:
        """Those that callers reach through NGINX: of the user's code, on a port that can be told."""
        return () if self.is_engine else tuple(e for e in self.endpoints if not e.fixed)

    @property
    def is_balanced(self) -> bool:
        """Whether callers reach it, or some port of it, through NGINX."""
        return bool(self.balanced_endpoints)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The public face of a stack."""

    port: int = 8080
    fixed: bool = False
    """Fail rather than move to another port when it is taken."""
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything in one stack file, validated and lowered."""

    name: str
    id: str
    """First ten hexadecimal digits of SHA-256 of the stack file's resolved path."""
    file: str
    folder: str
    services: Mapping[str, Service] = field(default_factory=dict)
    """By name, the reserved `gateway` included where the stack has one."""
    gateway: Gateway | None = None
    """The `gateway:` section; a stack without one still has the Service if anything is balanced."""

    def service(self, name: str) -> Service:
        return self.services[name]


@lru_cache(maxsize=1024)
def config_digest(service: Service) -> str:
    """Digest of all in a service that needs a new replica when it changes.

    How many replicas, when they are asked and how they are replaced is not part of it, nor which
    dependencies must be how far; which dependencies there are is, since they are injected. Remembered,
    because reconcile and every listing ask for each service again and again.
    """
    # NGINX is told where to listen by its configuration, which is loaded without a new replica
    endpoints = () if service.kind is Kind.GATEWAY else service.endpoints
    bare = replace(
        service,
        endpoints=endpoints,
        replicas=0,
        restart=Restart.ON_FAILURE,
        update=Update.ROLLING,
        stop=Stop(),
        startup=None,
        ready=Check(UptimeProbe()),
        alive=None,
        start_timeout_seconds=0.0,
        where="",
        depends_on=tuple(
            Dependency(d.service, Condition.STARTED)
            for d in sorted(service.depends_on, key=lambda d: d.service)
        ),
    )
    return hashlib.sha256(json.dumps(to_plain(bare), sort_keys=True).encode()).hexdigest()[:16]
