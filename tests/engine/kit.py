"""What tests of the engine share: services and stacks without a file, and an address book."""

import socket
from collections.abc import Mapping
from pathlib import Path

from devstack.core.model import (
    GATEWAY,
    Dependency,
    Endpoint,
    EngineProgram,
    Gateway,
    Kind,
    Service,
    SourceProgram,
    Stack,
)
from devstack.core.template import literal
from devstack.engine.addresses import AddressBook
from devstack.engine.assembly import engine_url
from devstack.engine.identity import FIRST_PORT, LAST_PORT, Identity
from devstack.engine.ports import is_free

STACK_ID = "0123456789"


def service(
    name: str,
    *endpoints: Endpoint,
    kind: Kind = Kind.SERVICE,
    depends_on: tuple[Dependency, ...] = (),
    environment: Mapping[str, str] | None = None,
    env_file: Mapping[str, str] | None = None,
) -> Service:
    """A program of the user's."""
    return Service(
        name,
        kind,
        SourceProgram(None),
        endpoints=endpoints,
        depends_on=depends_on,
        environment=tuple((n, literal(v)) for n, v in (environment or {}).items()),
        env_file=tuple((env_file or {}).items()),
    )


def database(name: str, engine: str = "postgres", port: int = 5432) -> Service:
    program = EngineProgram(engine, user="shop", database="books")
    return Service(name, Kind.DATABASE, program, endpoints=(Endpoint("main", port),))


def stack_of(*services: Service, gateway: Gateway | None = None) -> Stack:
    known = {each.name: each for each in services}
    known[GATEWAY] = Service(GATEWAY, Kind.GATEWAY, EngineProgram("nginx"))
    return Stack("shop", STACK_ID, "/x/stack.yaml", "/x", known, gateway)


def identity_here(network: str = "127.101.77") -> Identity:
    """An identity whose ports are free now, as far as one can know."""
    span = range(FIRST_PORT, LAST_PORT - 64, 61)
    first = next(p for p in span if all(is_free(p + n) for n in range(32)))
    return Identity(network=network, first_port=first)


def unused_port() -> int:
    """A number that no stack on this machine gives out: the system does, and to nobody now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def book_of(
    folder: Path,
    identity: Identity,
    *,
    names: bool = True,
    others: tuple[Identity, ...] = (),
) -> AddressBook:
    return AddressBook(
        identity,
        folder / "addresses.json",
        names=names,
        engine_url=engine_url,
        others=lambda: others,
    )
