"""What NGINX was told and is known to do."""

from dataclasses import replace
from typing import Any

from devstack.core import events as e
from devstack.core import policy
from devstack.core.model import GATEWAY
from devstack.core.state import (
    State,
)


def _gateway(state: State, **changes: Any) -> State:
    return replace(state, gateway=replace(state.gateway, **changes))


def routes_requested(state: State, event: e.RoutesRequested) -> State:
    return _gateway(state, setting=event.table)


def routes_applied(state: State, event: e.RoutesApplied) -> State:
    if state.gateway.setting != event.table:
        return state
    return _gateway(state, setting=None, table=event.table, routes_error="", routes_failures=0)


def routes_failed(state: State, event: e.RoutesFailed) -> State:
    return _gateway(
        state,
        setting=None,
        routes_error=event.message,
        routes_failures=state.gateway.routes_failures + 1,
        routes_retry_at=event.at + policy.ROUTES_RETRY_SECONDS,
    )


def gateway_load_requested(state: State, event: e.GatewayLoadRequested) -> State:
    return _gateway(state, loading=event.shape)


def gateway_loaded(state: State, event: e.GatewayLoaded) -> State:
    if not state.replicas_of(GATEWAY):
        return state
    return _gateway(
        state,
        loading=None,
        loaded=event.shape,
        load_error=None,
        warnings=event.warnings,
        load_retry_at=event.at + policy.LOAD_RETRY_SECONDS,
    )


def gateway_load_failed(state: State, event: e.GatewayLoadFailed) -> State:
    return _gateway(
        state,
        loading=None,
        load_error=(event.shape, event.message),
        load_retry_at=event.at + policy.LOAD_RETRY_SECONDS,
    )
