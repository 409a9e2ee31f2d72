"""What NGINX is told: `GatewayConfig` in NGINX's language, checked by reading it back.

Servers of HTTP are in `web`, those of TCP in `tcp`; here is what surrounds them. Whoever loads the
text is `load`.
"""

import ipaddress

from devstack.core.routes import GatewayConfig, Listen, RoutingTable, Upstream
from devstack.gateway.directive import (
    Directive,
    Expression,
    Rendered,
    UnsafeValue,
    block,
    checked_name,
    checked_port,
    line,
    write,
)
from devstack.gateway.parse import verify
from devstack.gateway.settings import ERROR_LOG_NAME, PID_NAME, GatewaySettings
from devstack.gateway.tcp import tcp_servers
from devstack.gateway.web import web_servers

_CONNECTIONS_PER_WORKER = 4096


class CannotRender(Exception):
    """A gateway's configuration contradicts itself."""


def render(
    config: GatewayConfig, settings: GatewaySettings, table: RoutingTable | None = None
) -> Rendered:
    """The configuration text; `table` is part of it only where NGINX has no shared dictionaries.

    Raises `UnsafeValue` for a text that must not reach the file and `CannotRender` for contradictions.
    """
    directives = _directives(config, settings, table or RoutingTable())
    rendered = write(directives)
    verify(rendered.text, directives)
    return rendered


def all_listens(config: GatewayConfig) -> tuple[Listen, ...]:
    """Every address and port that NGINX listens on for `config`."""
    return (*config.public, *(listen for slots in config.services for listen in slots.listens))


def _directives(
    config: GatewayConfig, settings: GatewaySettings, table: RoutingTable
) -> tuple[Directive, ...]:
    checked_name(config.stack)
    _check_listens(config, settings)
    listens = len(all_listens(config))
    connections = max(_CONNECTIONS_PER_WORKER, 2 * listens + 1024)
    features = settings.features
    tcp = any(slots.upstream is Upstream.TCP for slots in config.services)
    if tcp and not features.tcp:
        raise CannotRender(
            "cannot balance TCP services: this NGINX has no stream module\n"
            "hint: use another NGINX, or give the service no replicas behind the gateway"
        )
    return (
        *(line("load_module", Expression(module)) for module in features.modules),
        *([line("user", "root", "root")] if settings.as_root else []),
        line("daemon", "off"),
        line("pid", PID_NAME),
        line("lock_file", "nginx.lock"),
        line("error_log", ERROR_LOG_NAME, "warn"),
        line("worker_processes", settings.workers),
        line("worker_rlimit_nofile", max(settings.open_files, 64)),
        # A save in one service must not cut the websockets of another.
        line("worker_shutdown_timeout", "1h"),
        block("events", inside=[line("worker_connections", connections)]),
        block("http", inside=web_servers(config, settings, table)),
        *([block("stream", inside=tcp_servers(config, settings, table))] if tcp else []),
    )


def _check_listens(config: GatewayConfig, settings: GatewaySettings) -> None:
    seen: set[Listen] = set()
    for listen in all_listens(config):
        try:
            ip = ipaddress.ip_address(listen.address)
        except ValueError as exc:
            raise UnsafeValue(f"cannot listen on {listen.address!r}: not an IP address") from exc
        if not ip.is_loopback and listen.address not in settings.beyond_loopback:
            raise UnsafeValue(f"cannot listen on {listen.address}: it is not a loopback address")
        checked_port(listen.port)
        if listen in seen:
            raise CannotRender(
                f"cannot give {listen.address}:{listen.port} to two parts of the stack"
            )
        seen.add(listen)
