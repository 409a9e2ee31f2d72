"""What the gateway is asked to do: which addresses, names and slots exist, and which replicas are ready.

Two values at two speeds. `GatewayConfig` (names, routes, slot ports) is loaded by a reload of NGINX;
`RoutingTable` (ready replicas) is replaced in shared memory without one. Both are derived from State
elsewhere; here are only their types. Rendering to NGINX's language is `devstack.gateway`.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Upstream(StrEnum):
    """How NGINX speaks to the replicas of a service."""

    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True, slots=True, order=True)
class Listen:
    """A literal address and port on which NGINX listens."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Route:
    """A path of the public gateway; takes the path itself and everything under `path/`."""

    path: str
    to: str
    strip: bool = False
    timeout_seconds: float | None = None
    stream: bool = False
    """Pass request bodies as they come instead of buffering them."""


@dataclass(frozen=True, slots=True)
class Slots:
    """One endpoint of a service behind NGINX: where it is dialled and every port a replica may get."""

    service: str
    key: str
    """Key in the routing table: the service's name, with `.endpoint` for further endpoints."""
    upstream: Upstream
    listens: tuple[Listen, ...]
    ports: tuple[tuple[int, ...], ...]
    """For each slot (first is slot 1), the ports a replica of it may listen on (127.0.0.1)."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Which services, routes and slot ports exist."""

    stack: str
    public: tuple[Listen, ...] = ()
    """Where the gateway itself listens; empty when the stack has no `gateway:` section."""
    routes: tuple[Route, ...] = ()
    services: tuple[Slots, ...] = ()
    direct: tuple[tuple[str, str], ...] = ()
    """Routing-table key → fixed `address:port` for services dialled without slots (port: fixed)."""


@dataclass(frozen=True, slots=True)
class Target:
    """A ready replica, as the routing table names it."""

    slot: int
    address: str
    """Literal `IP:port`; a port without an upstream block is dialled literally."""
    replica: str = ""
    """Its id, for the access log."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Ready replicas by routing-table key, and what is said while a key has none."""

    ready: dict[str, tuple[Target, ...]] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    """Key → one line for the 503 page, such as `orders is starting`."""
    since: dict[str, float] = field(default_factory=dict)
    """Key → wall-clock second since which it has none; the page counts the seconds from there."""
