"""What devstack knows of the servers it can run: usual ports, how they are asked to end, defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from devstack.core.model import Kind, RuntimeName, Stop

GATEWAY_ENGINE: Final = "nginx"
SERVICE_PORT: Final = 8080
FAKES: Final = (RuntimeName.FAKE, RuntimeName.FAKE_WORKLOAD)
DEFAULT_USER: Final = "devstack"
"""One for all databases: MySQL allows 32 characters, names have up to 40."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One engine."""

    kind: Kind
    port: int
    stop: Stop
    fields: frozenset[str]
    """What can be asked of it in a reference."""
    has_extensions: bool = False


_DATABASE: Final = frozenset(
    {"url", "host", "port", "address", "user", "password", "database", "dsn"}
)

PRESETS: Final[Mapping[str, Preset]] = {
    # INT is PostgreSQL's fast shutdown: TERM would wait for every client to leave.
    "postgres": Preset(Kind.DATABASE, 5432, Stop("INT", 10.0), _DATABASE, has_extensions=True),
    "mysql": Preset(Kind.DATABASE, 3306, Stop("TERM", 10.0), _DATABASE),
    "mongodb": Preset(Kind.DATABASE, 27017, Stop("TERM", 10.0), _DATABASE),
    "nats": Preset(
        Kind.BROKER,
        4222,
        Stop("TERM", 10.0),
        frozenset({"url", "host", "port", "address", "user", "password"}),
    ),
}


def database_name(service: str) -> str:
    """`orders-db` has the database `orders_db`: a dash would need quotes in SQL."""
    return service.replace("-", "_")
