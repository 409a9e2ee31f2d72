"""What the gateway should be told, derived from State: the shape of its configuration and its table."""

from devstack.core import policy
from devstack.core.events import GatewayShape
from devstack.core.model import GATEWAY, Endpoint, Service
from devstack.core.routes import RoutingTable, Target
from devstack.core.state import Replica, State


def routing_key(service: str, endpoint: Endpoint, service_definition: Service) -> str:
    """The table's key of an endpoint: the service's name, with `.endpoint` for further ones."""
    main = service_definition.main_endpoint
    return (
        service if main is not None and main.name == endpoint.name else f"{service}.{endpoint.name}"
    )


def wanted_shape(state: State) -> GatewayShape:
    """Which services, routes and slots the configuration should have.

    Slots are rendered ahead, so the number loaded stays as long as it is enough: scaling within it
    is no reason to reload.
    """
    if state.stack is None:
        return GatewayShape()
    loaded = dict(state.gateway.loaded.slots) if state.gateway.loaded is not None else {}
    slots: list[tuple[str, int]] = []
    endpoints: list[tuple[str, tuple[tuple[str, int, str], ...]]] = []
    fixed: list[tuple[str, int]] = []
    for name in sorted(state.stack.services):
        service = state.stack.services[name]
        if name == GATEWAY:
            continue
        if service.is_balanced:
            override = state.override(name).replicas
            count = service.replicas if override is None else override
            highest = max((r.slot or 0 for r in state.replicas_of(name)), default=0)
            needed = max(count, highest)
            known = loaded.get(name, 0)
            slots.append((name, known if known >= needed else policy.rendered_slots(needed)))
            endpoints.append(
                (name, tuple((p.name, p.port, p.scheme.value) for p in service.balanced_endpoints))
            )
        fixed.extend((routing_key(name, p, service), p.port) for p in service.endpoints if p.fixed)
    gateway = state.stack.gateway
    routes = gateway.routes if gateway is not None else ()
    return GatewayShape(
        public=gateway is not None,
        port=gateway.port if gateway is not None else 0,
        routes=tuple((r.path, r.to, r.strip, r.timeout_seconds, r.stream) for r in routes),
        slots=tuple(slots),
        endpoints=tuple(endpoints),
        fixed=tuple(fixed),
    )


def wanted_table(
    state: State, leaving: frozenset[str], shape: GatewayShape | None = None
) -> RoutingTable:
    """Ready replicas by routing key, without those on their way out.

    A slot enters only when its upstream block is loaded (or in `shape`, which is about to be);
    a stack that is closing routes to nobody. `since` is on the monotonic clock.
    """
    if state.stack is None:
        return RoutingTable()
    loaded = shape if shape is not None else state.gateway.loaded
    blocks = dict(loaded.slots) if loaded is not None else {}
    ready: dict[str, tuple[Target, ...]] = {}
    waiting: dict[str, str] = {}
    since: dict[str, float] = {}
    for name in sorted(state.stack.services):
        service = state.stack.services[name]
        if name == GATEWAY or not service.endpoints or service.is_engine:
            continue
        serving = [
            r
            for r in state.replicas_of(name)
            if r.is_serving
            and r.id not in leaving
            and not state.closing
            and (r.slot is None or not service.is_balanced or r.slot <= blocks.get(name, 0))
        ]
        serving.sort(key=lambda r: (r.slot or 0, r.id))
        for endpoint in service.endpoints:
            key = routing_key(name, endpoint, service)
            targets = tuple(t for r in serving if (t := _target(r, endpoint)) is not None)
            if targets:
                ready[key] = targets
            else:
                waiting[key] = _waiting_text(state, name)
                known = state.of(name).waiting_since
                if known is not None:
                    since[key] = known
    return RoutingTable(ready=ready, waiting=waiting, since=since)


def _target(replica: Replica, endpoint: Endpoint) -> Target | None:
    address = replica.address(endpoint.name)
    return Target(replica.slot or 0, address, replica.id) if address is not None else None


def _waiting_text(state: State, name: str) -> str:
    if state.closing:
        return f"{name} is stopping"
    if state.override(name).stopped or state.wanted_count(name) == 0:
        return f"{name} is stopped"
    return f"{name} is starting"
