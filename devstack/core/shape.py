"""What the gateway's configuration should have, derived from State; its routing table is `table`."""

from devstack.core import policy
from devstack.core.events import GatewayShape
from devstack.core.model import GATEWAY, Endpoint, Service
from devstack.core.state import State


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
