"""Which replicas the gateway should send requests to, and what it says while there are none: from State."""

from devstack.core.events import GatewayShape
from devstack.core.model import GATEWAY, Endpoint
from devstack.core.routes import RoutingTable, Target
from devstack.core.shape import routing_key
from devstack.core.state import Replica, State
from devstack.core.waiting import waiting_text


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
                waiting[key] = waiting_text(state, name)
                known = state.of(name).waiting_since
                if known is not None:
                    since[key] = known
    return RoutingTable(ready=ready, waiting=waiting, since=since)


def _target(replica: Replica, endpoint: Endpoint) -> Target | None:
    address = replica.address(endpoint.name)
    return Target(replica.slot or 0, address, replica.id) if address is not None else None
