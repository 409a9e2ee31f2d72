"""From what people wrote to the parts of a Stack; what does not fit is reported and left out.

What dependencies and references refer to is asked in `names`, once everything is lowered.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.config.ground import Ground
from devstack.config.problems import Report
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
    _check_fixed_ports(ground, gateway, services)
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


def _check_fixed_ports(
    ground: Ground, gateway: Gateway | None, services: Mapping[str, Service]
) -> None:
    owners: dict[int, str] = {}
    if gateway is not None and gateway.fixed:
        owners[gateway.port] = "the gateway"
    for name, service in services.items():
        for endpoint in service.endpoints:
            if not endpoint.fixed:
                continue
            if endpoint.port in owners:
                ground.report.error(
                    ground.key_place("services", name),
                    f"'{name}' and {owners[endpoint.port]} are both fixed to port {endpoint.port}",
                )
            owners.setdefault(endpoint.port, f"'{name}'")
