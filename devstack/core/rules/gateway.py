"""When NGINX is told: the routing table follows readiness, the configuration follows the shape."""

from devstack.core.model import GATEWAY
from devstack.core.ops import LoadGateway, SetRoutes
from devstack.core.rules.draft import Draft
from devstack.core.shape import wanted_shape
from devstack.core.state import State
from devstack.core.table import wanted_table


def set_routes(state: State, draft: Draft) -> None:
    """The routing table follows readiness, one replacement at a time."""
    if not state.gateway_running:
        return
    if state.gateway.setting is not None:
        _hold_for(state, draft)
        return
    table = wanted_table(state, frozenset(draft.leaving))
    if table == state.gateway.table:
        return
    _hold_for(state, draft)
    if draft.now < state.gateway.routes_retry_at:
        draft.wake(state.gateway.routes_retry_at)
        return
    draft.op("routes", SetRoutes(table, "ready replicas changed"))


def _hold_for(state: State, draft: Draft) -> None:
    """While a table is wanted that NGINX did not take."""
    if state.gateway.routes_error:
        draft.hold(GATEWAY, None, state.gateway.routes_error)


def load_gateway(state: State, draft: Draft) -> None:
    """NGINX is given a new configuration when names, routes or slots changed."""
    if state.closing or state.gateway.loading is not None:
        return
    if not any(r.is_serving for r in state.replicas_of(GATEWAY)):
        return
    shape = wanted_shape(state)
    if shape == state.gateway.loaded:
        if state.gateway.warnings:
            # an address that somebody held was left out: perhaps it is free by now
            if draft.now < state.gateway.load_retry_at:
                draft.wake(state.gateway.load_retry_at)
            else:
                draft.op("load", LoadGateway(shape, "an address was in use"))
        return
    error = state.gateway.load_error
    if error is not None and error[0] == shape:
        draft.hold(GATEWAY, None, error[1], state.gateway.load_retry_at)
        if draft.now < state.gateway.load_retry_at:
            return
    draft.op("load", LoadGateway(shape, "routes or slots changed"))
