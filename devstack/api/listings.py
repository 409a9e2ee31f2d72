"""What listings say, as the objects of `--json`; made in the controller, next to the State.

How they look on a terminal is `render`; their JSON Schemas are in `schemas/`.
"""

import os
import time
from datetime import UTC, datetime
from typing import Any

from devstack import __version__
from devstack.api.control import Control
from devstack.core.events import Exit
from devstack.core.model import GATEWAY
from devstack.core.state import Replica, State
from devstack.core.view import ServiceView, restarts, service_views

SCHEMA = 1

Listing = dict[str, Any]


def status(control: Control) -> Listing:
    """`devstack status --json`."""
    state = control.state
    views = service_views(state, control.plan, control.now)
    return {
        "schema": SCHEMA,
        "stack": state.stack.name if state.stack is not None else None,
        "stack_id": state.stack.id if state.stack is not None else None,
        "file": state.stack.file if state.stack is not None else None,
        "runtime": _runtime(views),
        "controller": {"pid": os.getpid(), "version": __version__},
        "gateway": _gateway_url(control),
        "services": [_service(control, view) for view in views],
        "notes": list(control.notes()),
    }


def endpoints(control: Control) -> Listing:
    """`devstack endpoints --json`."""
    state = control.state
    listed: list[Listing] = []
    for name in state.names():
        service = state.definition(name)
        if service is None or name == GATEWAY or not service.endpoints:
            continue
        listed.append(
            {
                "service": name,
                "kind": service.kind.value,
                "url": control.url(name),
                "ports": [
                    {"name": e.name, "port": e.port, "scheme": e.scheme.value}
                    for e in service.endpoints
                ],
            }
        )
    gateway = state.stack.gateway if state.stack is not None else None
    return {
        "schema": SCHEMA,
        "gateway": _gateway_url(control),
        "routes": [{"path": r.path, "to": r.to} for r in (gateway.routes if gateway else ())],
        "endpoints": listed,
    }


def environment(control: Control, service: str) -> Listing:
    """`devstack env SERVICE --json`; secrets are masked already."""
    return {
        "schema": SCHEMA,
        "service": service,
        "variables": [
            {
                "name": line.name,
                "value": line.value,
                "origin": line.origin,
                "overrides": list(line.overrides),
            }
            for line in control.env(service)
        ],
    }


def why(control: Control, service: str) -> Listing:
    """`devstack why SERVICE --json`."""
    views = service_views(control.state, control.plan, control.now)
    view = next(view for view in views if view.name == service)
    return {
        "schema": SCHEMA,
        "service": service,
        "state": view.word.value,
        "lines": list(control.why(service)),
    }


def entry(control: Control, started_at: float) -> Listing:
    """What `devstack ls` shows of a stack; kept in the run folder."""
    state = control.state
    addresses: list[Listing] = []
    for name in state.names():
        url = _gateway_url(control) if name == GATEWAY else control.url(name)
        if url is not None:
            addresses.append({"service": name, "url": url})
    stack = state.stack
    return {
        "name": stack.name if stack is not None else None,
        "file": stack.file if stack is not None else None,
        "folder": stack.folder if stack is not None else None,
        "gateway": _gateway_url(control),
        "ports": addresses,
        "pid": os.getpid(),
        "version": __version__,
        "started_at": started_at,
    }


def counts(control: Control) -> Listing:
    """How far the stack is: what `up` shows beside the clock."""
    views = service_views(control.state, control.plan, control.now)
    return {
        "stack": control.state.stack.name if control.state.stack is not None else None,
        "total": len(views),
        "settled": sum(view.word.is_settled for view in views),
        "pending": [[v.name, v.word.value, v.reason] for v in views if not v.word.is_settled],
    }


def _gateway_url(control: Control) -> str | None:
    """None while NGINX serves at another port than the file wants: that one may be somebody else's."""
    stack, loaded = control.state.stack, control.state.gateway.loaded
    wanted = stack.gateway if stack is not None else None
    if wanted is not None and loaded is not None:
        is_loaded = loaded.public and loaded.port == wanted.port
        return control.gateway_url() if is_loaded else None
    return control.gateway_url()


def _runtime(views: tuple[ServiceView, ...]) -> str:
    runtimes = {view.definition.runtime.value for view in views}
    return runtimes.pop() if len(runtimes) == 1 else "mixed" if runtimes else "process"


def _service(control: Control, view: ServiceView) -> Listing:
    state = control.state
    return {
        "name": view.name,
        "kind": view.definition.kind.value,
        "runtime": view.definition.runtime.value,
        "state": view.word.value,
        "reason": view.reason or None,
        "desired": view.desired,
        "ready": view.ready,
        "restarts": view.restarts,
        "overridden": view.overridden,
        "file_replicas": view.definition.replicas,
        "revision": state.of(view.name).desired,
        "url": _gateway_url(control) if view.name == GATEWAY else control.url(view.name),
        "warnings": list(view.warnings),
        "last_exit": _last_exit(state, view.name),
        "replicas": [_replica(state, replica) for replica in view.replicas],
    }


def _replica(state: State, replica: Replica) -> Listing:
    return {
        "id": replica.id,
        "slot": replica.slot,
        "pid": replica.pid,
        "address": replica.address(),
        "phase": replica.phase.value,
        "ready": replica.ready,
        "draining": replica.draining,
        "restarts": restarts(state, replica),
        "revision": replica.revision,
        "started_at": None if replica.started_at is None else utc(replica.started_at),
    }


def _last_exit(state: State, name: str) -> Listing | None:
    exits = [s.last_exit for s in state.of(name).slots.values() if s.last_exit is not None]
    if not exits:
        return None
    last: Exit = max(exits, key=lambda exit_: exit_.wall)
    return {
        "code": last.code,
        "signal": last.signal,
        "message": str(last),
        "at": utc(last.wall) if last.wall else None,
    }


def utc(seconds: float) -> str:
    """RFC 3339, to the millisecond, as in `logs --json`."""
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def now() -> float:
    """Unix time, for ages."""
    return time.time()
