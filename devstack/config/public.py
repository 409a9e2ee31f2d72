"""Lowers the gateway: its port, its routes, and the Service that is the stack's NGINX."""

from collections.abc import Mapping

from devstack.config.ground import Ground, value_place
from devstack.config.presets import GATEWAY_ENGINE
from devstack.config.problems import Place, did_you_mean
from devstack.config.schema import FixedPort, GatewaySection, RouteSection
from devstack.config.source import Scalar, Section
from devstack.core.model import (
    GATEWAY,
    Check,
    Endpoint,
    EngineProgram,
    Gateway,
    Kind,
    QueryProbe,
    Restart,
    Scheme,
    Service,
    Update,
)
from devstack.core.routes import Route


def lower_gateway(
    ground: Ground, written: GatewaySection, services: Mapping[str, Service]
) -> Gateway:
    """The public face; its routes go to services that have a port for http."""
    return Gateway(
        port=written.port.fixed if isinstance(written.port, FixedPort) else written.port,
        fixed=isinstance(written.port, FixedPort),
        routes=tuple(_routes(ground, written, services)),
    )


def gateway_service(gateway: Gateway | None, where: str) -> Service:
    """The reserved Service: the one NGINX, with or without a public port. It depends on nothing."""
    return Service(
        name=GATEWAY,
        kind=Kind.GATEWAY,
        program=EngineProgram(GATEWAY_ENGINE),
        endpoints=() if gateway is None else (Endpoint("http", gateway.port, Scheme.HTTP),),
        restart=Restart.ALWAYS,
        update=Update.RECREATE,
        ready=Check(QueryProbe()),
        where=where,
    )


def _routes(
    ground: Ground, written: GatewaySection, services: Mapping[str, Service]
) -> list[Route]:
    section = ground.tree.get(GATEWAY)
    at = section.get("routes") if isinstance(section, Section) else None
    if not isinstance(at, Section):
        return []
    routes: dict[str, Route] = {}
    for path, word in written.routes.items():
        place = at.key_place(path)
        node = at.get(path)
        short = path.rstrip("/") or "/"
        if short in routes:
            ground.report.error(place, f"the route '{path}' is there twice")
            continue
        if isinstance(word, RouteSection):
            if word.to is None:
                if isinstance(node, Section) and not {"to", "static"} & node.key_places.keys():
                    ground.report.error(place, f"the route '{path}' needs 'to'")
                continue
            to_place = value_place(node, "to") if isinstance(node, Section) else place
            target = _route_target(ground, word.to, to_place, services)
            routes[short] = Route(short, target, word.strip, word.timeout, word.stream)
        else:
            to_place = node.place if isinstance(node, Scalar) else place
            routes[short] = Route(short, _route_target(ground, word, to_place, services))
    return list(routes.values())


def _route_target(ground: Ground, to: str, place: Place, services: Mapping[str, Service]) -> str:
    """The key in the routing table."""
    name, _, wanted = to.partition(".")
    service = services.get(name)
    if service is None and name not in ground.known:
        near = did_you_mean(name, ground.known)
        ground.report.error(place, f"there is no service '{name}' to route to{near}")
    if service is None or name in ground.damaged:
        return to
    if service.kind is not Kind.SERVICE:
        ground.report.error(place, f"cannot route to '{name}': it is a {service.kind}")
    elif not service.endpoints:
        ground.report.error(place, f"cannot route to '{name}': it has no port")
    elif wanted and wanted not in {endpoint.name for endpoint in service.endpoints}:
        known = ", ".join(endpoint.name for endpoint in service.endpoints)
        ground.report.error(place, f"'{name}' has no port '{wanted}'", f"its ports: {known}")
    else:
        endpoint = next((e for e in service.endpoints if e.name == wanted), service.endpoints[0])
        if endpoint.scheme is not Scheme.HTTP:
            ground.report.error(
                place, f"cannot route to '{to}': it speaks {endpoint.scheme}, not http"
            )
        return name if endpoint is service.endpoints[0] else f"{name}.{endpoint.name}"
    return to
