"""What names refer to: dependencies and references point at what exists and fits.

Works on the tree for places and on lowered services for meaning. A name whose service could not be
read is known all the same, so that one mistake is told once.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Final

from devstack.config.interpolate import place_of_reference
from devstack.config.presets import PRESETS
from devstack.config.problems import Place, Report, did_you_mean, lines_of
from devstack.config.source import Items, Node, Scalar, Section
from devstack.config.validate import NAMED_SECTIONS
from devstack.core.model import (
    GATEWAY,
    Condition,
    Dependency,
    EngineProgram,
    Kind,
    Service,
)
from devstack.core.template import Reference

RESERVED: Final = {
    GATEWAY: "it is the name of the stack's NGINX",
    "self": "${self.port} means the service itself",
    "secrets": "${secrets.name.path} means a secret",
    "localhost": "it is the machine's own name",
}

_MAX_CYCLES: Final = 20
"""Each has one edge taken out to find the next; nobody reads more of them."""

_ADDRESS: Final = frozenset({"url", "host", "port", "address"})


@dataclass(frozen=True, slots=True)
class Names:
    """Every name a stack file gives, whether or not what it names could be read."""

    places: Mapping[str, Place]
    damaged: frozenset[str] = frozenset()


def declared_names(tree: Section, report: Report) -> dict[str, Place]:
    """Names and where they are given; reports those that are reserved or given twice."""
    places: dict[str, Place] = {}
    for kind in NAMED_SECTIONS:
        section = tree.get(kind)
        if not isinstance(section, Section):
            continue
        for name in section:
            place = section.key_place(name)
            if name in RESERVED:
                report.error(place, f"the name '{name}' is reserved: {RESERVED[name]}")
            elif name in places:
                report.error(
                    place,
                    f"the name '{name}' is given twice",
                    f"first in {places[name]}; services, databases and brokers share their names",
                )
            places.setdefault(name, place)
    return places


def settle_dependencies(
    services: Mapping[str, Service], names: Names, tree: Section, report: Report
) -> dict[str, Service]:
    """Services whose dependencies exist, fit and have no cycle; a listed job must be completed."""
    settled: dict[str, Service] = {}
    for name, service in services.items():
        kept: list[Dependency] = []
        for dependency in service.depends_on:
            place = _dependency_place(tree, name, dependency.service)
            right = _settle(dependency, services, names, place, _is_list(tree, name), report)
            if right is not None:
                kept.append(right)
        settled[name] = replace(service, depends_on=tuple(kept))
    _report_cycles(settled, tree, report)
    return settled


def _settle(
    dependency: Dependency,
    services: Mapping[str, Service],
    names: Names,
    place: Place,
    is_list: bool,
    report: Report,
) -> Dependency | None:
    wanted = dependency.service
    target = services.get(wanted)
    if target is None or target.kind is Kind.GATEWAY:
        if wanted == GATEWAY:
            report.error(
                place, "nothing can depend on the gateway", "it is started before all others"
            )
        elif wanted not in names.places:
            report.error(
                place,
                f"there is no service '{wanted}' to depend on{did_you_mean(wanted, names.places)}",
            )
        return None
    if target.kind is Kind.JOB:
        if is_list:
            return Dependency(wanted, Condition.COMPLETED)
        if dependency.condition is Condition.READY:
            report.error(
                place,
                f"'{wanted}' is a job and never ready",
                f"write '{wanted}: completed'",
            )
    elif dependency.condition is Condition.COMPLETED and wanted not in names.damaged:
        report.error(
            place,
            f"'{wanted}' is not a job and never completed",
            f"write '{wanted}: ready', or 'kind: job' there",
        )
    return dependency


def _report_cycles(services: Mapping[str, Service], tree: Section, report: Report) -> None:
    """Each cycle by its whole path, told where its first service names the next."""
    left = {name: [d.service for d in service.depends_on] for name, service in services.items()}
    for _ in range(_MAX_CYCLES):
        cycle = _a_cycle(left)
        if not cycle:
            return
        places = [
            _dependency_place(tree, name, following)
            for name, following in zip(cycle, cycle[1:] + cycle[:1], strict=True)
        ]
        report.error(
            places[0],
            f"dependency cycle: {' → '.join([*cycle, cycle[0]])} ({lines_of(places)})",
            "a service cannot wait for itself"
            if len(cycle) == 1
            else "take one of them out; a reference such as ${a.url} needs no depends_on",
        )
        left[cycle[-1]].remove(cycle[0])


def _a_cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """One cycle, each service depending on the next, from the one that stands first in the file."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        cycle = list(reversed(exc.args[1]))[:-1]
        order = list(graph)
        first = min(range(len(cycle)), key=lambda i: order.index(cycle[i]))
        return cycle[first:] + cycle[:first]
    return []


def check_references(
    tree: Section, services: Mapping[str, Service], names: Names, report: Report
) -> None:
    """Every `${service.field}` names something that exists and has that field."""
    section = tree.get("services")
    if not isinstance(section, Section):
        return
    for name, node in section.items():
        for scalar in _scalars(node):
            for reference in scalar.template.references if scalar.template else ():
                place = place_of_reference(scalar, reference, report)
                _check_reference(reference, name, services, names, place, report)


def _check_reference(
    reference: Reference,
    owner: str,
    services: Mapping[str, Service],
    names: Names,
    place: Place,
    report: Report,
) -> None:
    if reference.secret:
        report.error(place, f"'{reference}': secrets are not in this version")
        return
    name = owner if reference.service == "self" else reference.service
    target = services.get(name)
    if target is None:
        if name == GATEWAY:
            report.error(place, f"'{reference}': the stack has no gateway")
        elif name not in names.places:
            known = [*names.places, "self", GATEWAY]
            report.error(place, f"'{reference}': there is no '{name}'{did_you_mean(name, known)}")
        return
    if name in names.damaged:
        return
    fields = _fields(target, is_self=reference.service == "self")
    known_endpoints = [endpoint.name for endpoint in target.endpoints]
    if not fields:
        what = "is a job" if target.kind is Kind.JOB else "has no port"
        report.error(place, f"'{reference}': '{name}' {what}, so there is nothing to dial")
    elif reference.field not in fields:
        near = did_you_mean(reference.field, fields)
        report.error(
            place,
            f"'{reference}': {_a_kind(target)} has no '{reference.field}'{near}",
            f"it has: {', '.join(sorted(fields))}",
        )
    elif reference.endpoint is not None and reference.endpoint not in known_endpoints:
        near = did_you_mean(reference.endpoint, known_endpoints)
        report.error(
            place,
            f"'{reference}': '{name}' has no port '{reference.endpoint}'{near}",
            f"its ports: {', '.join(known_endpoints) or 'none'}",
        )


def _fields(target: Service, *, is_self: bool) -> frozenset[str]:
    """What can be asked of a service; a worker still knows where it would listen."""
    if isinstance(target.program, EngineProgram) and target.program.engine in PRESETS:
        return PRESETS[target.program.engine].fields
    if target.endpoints:
        return _ADDRESS
    return frozenset({"host"}) if is_self else frozenset()


def _a_kind(service: Service) -> str:
    return f"the {service.kind} '{service.name}'"


def _scalars(node: Node) -> Iterator[Scalar]:
    match node:
        case Scalar():
            yield node
        case Items():
            for item in node:
                yield from _scalars(item)
        case Section():
            for item in node.values():
                yield from _scalars(item)


def _depends_on(tree: Section, name: str) -> Node | None:
    services = tree.get("services")
    section = services.get(name) if isinstance(services, Section) else None
    return section.get("depends_on") if isinstance(section, Section) else None


def _is_list(tree: Section, name: str) -> bool:
    return isinstance(_depends_on(tree, name), Items)


def _dependency_place(tree: Section, name: str, needed: str) -> Place:
    node = _depends_on(tree, name)
    match node:
        case Items():
            for item in node:
                if isinstance(item, Scalar) and item.text == needed:
                    return item.place
        case Section():
            return node.key_place(needed)
        case _:
            pass
    return tree.place
