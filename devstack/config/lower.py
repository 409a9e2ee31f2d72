"""From what people wrote to the parts of a Stack; what does not fit is reported and left out.

What dependencies and references refer to is asked in `names`, once everything is lowered.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from devstack.config.ground import Ground
from devstack.config.problems import Place, Report, lines_of
from devstack.config.public import gateway_service, lower_gateway
from devstack.config.servers import lower_broker, lower_database
from devstack.config.services import lower_service
from devstack.config.source import Section
from devstack.config.validate import Checked
from devstack.core.model import GATEWAY, Gateway, Kind, Service
from devstack.core.policy import MOST_ADDRESSES

_SECTIONS = {Kind.DATABASE: "databases", Kind.BROKER: "broker"}
"""Where services of a kind stand; all others under `services`."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """The services of a stack file, and what else was found on the way."""

    services: dict[str, Service]
    gateway: Gateway | None
    env_files: tuple[Path, ...]


def lower(
    checked: Checked, tree: Section, folder: Path, known: Collection[str], report: Report
) -> Lowered:
    """Lower everything that could be read; `known` are all names the file gives."""
    file = checked.file
    ground = Ground(tree, folder, known, checked.damaged, report, roots=[folder])
    for service in file.services.values():
        if service.source is not None:
            ground.roots.append(ground.resolved(service.source))
    services: dict[str, Service] = {}
    # A name that is given twice was told; what has it first keeps it.
    for name, service in file.services.items():
        services.setdefault(name, lower_service(ground, name, service))
    for name, database in file.databases.items():
        services.setdefault(name, lower_database(ground, name, database))
    for name, broker in file.broker.items():
        services.setdefault(name, lower_broker(ground, name, broker))
    gateway = None if file.gateway is None else lower_gateway(ground, file.gateway, services)
    gateway = _settle_fixed_ports(ground, gateway, services)
    _check_addresses(ground, services)
    if gateway is not None or any(service.is_balanced for service in services.values()):
        where = "" if gateway is None else str(tree.key_place(GATEWAY))
        services[GATEWAY] = gateway_service(gateway, where)
    return Lowered(services, gateway, tuple(ground.env_files))


def _check_addresses(ground: Ground, services: Mapping[str, Service]) -> None:
    dialled = [s for s in services.values() if any(not e.fixed for e in s.endpoints)]
    if len(dialled) > MOST_ADDRESSES:
        first = dialled[MOST_ADDRESSES]
        ground.report.error(
            ground.key_place(_SECTIONS.get(first.kind, "services"), first.name),
            f"'{first.name}' is one too many: a stack has addresses for {MOST_ADDRESSES} services "
            "with a port",
            "write 'port: none' for those that nobody dials, or make it two stacks",
        )


def _settle_fixed_ports(
    ground: Ground, gateway: Gateway | None, services: Mapping[str, Service]
) -> Gateway | None:
    """Each fixed number has one owner, and a port that the gateway only wants gives way to it."""
    owners: dict[int, tuple[str, Place]] = {}
    gateway_place = _gateway_port_place(ground)
    if gateway is not None and gateway.fixed:
        owners[gateway.port] = ("the gateway", gateway_place)
    for name, service in services.items():
        for endpoint in service.endpoints:
            if not endpoint.fixed:
                continue
            place = _port_place(ground, name, endpoint.name)
            if endpoint.port in owners:
                other, first = owners[endpoint.port]
                ground.report.error(
                    place,
                    f"'{name}' and {other} are both fixed to port {endpoint.port} "
                    f"({lines_of([first, place])})",
                )
            owners.setdefault(endpoint.port, (f"'{name}'", place))
    if gateway is None or gateway.fixed or gateway.port not in owners:
        return gateway
    numbers = (*range(gateway.port + 1, 65536), *range(1024, gateway.port))
    free = next(number for number in numbers if number not in owners)
    ground.report.warn(
        gateway_place,
        f"the gateway gets port {free}: {owners[gateway.port][0]} is fixed to {gateway.port}",
    )
    return replace(gateway, port=free)


def _gateway_port_place(ground: Ground) -> Place:
    at = ground.tree.get(GATEWAY)
    where = ground.tree.key_place(GATEWAY)
    return at.key_places.get("port", where) if isinstance(at, Section) else where


def _port_place(ground: Ground, service: str, endpoint: str) -> Place:
    at = ground.section("services", service)
    ports = at.get("ports")
    return ports.key_place(endpoint) if isinstance(ports, Section) else at.key_place("port")
