"""Which TCP servers NGINX has: services with `scheme: tcp`, through its stream module.

The stream module shares no dictionary with HTTP; its script reads the same entries from a small file
for each connection. What was tried cannot be told to the backup here, so it takes the next in turn.
"""

import ipaddress
from collections.abc import Iterator

from devstack.core.routes import GatewayConfig, Listen, RoutingTable, Slots, Upstream
from devstack.gateway.directive import Directive, Expression, Value, block, checked_key, line
from devstack.gateway.script import SCRIPT_NAME
from devstack.gateway.settings import TCP_NONE_SOCKET_NAME, GatewaySettings
from devstack.gateway.upstreams import literal_address, upstream_blocks

E_ = Expression

_TIMES = (
    line("proxy_connect_timeout", "1s"),
    line("proxy_timeout", "24h"),  # idle connections are common, and a container has no limit
    line("proxy_socket_keepalive", "on"),
)


def tcp_servers(
    config: GatewayConfig, settings: GatewaySettings, table: RoutingTable
) -> Iterator[Directive]:
    """Everything inside `stream`."""
    services = [slots for slots in config.services if slots.upstream is Upstream.TCP]
    yield from _TIMES
    if settings.features.shared_table:
        yield from _by_table(config, services)
    else:
        yield from _fixed(services, table)


def _by_table(config: GatewayConfig, services: list[Slots]) -> Iterator[Directive]:
    yield line("js_import", "routes", "from", SCRIPT_NAME)
    yield line("js_shared_dict_zone", "zone=ds_tcp_turns:64k", "type=number")
    yield line("js_set", E_("$ds_tcp"), "routes.chooseTcp")
    listens = [(listen, slots.key) for slots in services for listen in slots.listens]
    blocks = [each for each in upstream_blocks(config) if each.kind is Upstream.TCP]
    yield block(
        "map",
        E_("$ds_tcp"),
        E_("$ds_tcp_target"),
        inside=[
            line(E_("default"), E_("$ds_tcp")),
            *(line(each.address, each.name, origin=f"services.{each.key}") for each in blocks),
        ],
    )
    for each in blocks:
        yield block(
            "upstream",
            each.name,
            inside=[
                line("server", each.address, "max_fails=0"),
                line("server", f"unix:{_again_socket(each.key)}", "backup", "max_fails=0"),
            ],
            origin=f"services.{each.key}",
        )
    if listens:
        yield block(
            "map",
            E_("$server_addr:$server_port"),
            E_("$ds_dialled"),
            inside=[
                line(Value(f"{ipaddress.ip_address(at.address)}:{at.port}"), checked_key(key))
                for at, key in listens
            ],
        )
        yield block(
            "server",
            inside=[
                *(_listen(at, origin=f"services.{key}") for at, key in listens),
                line("set", E_("$ds_key"), E_("$ds_dialled")),
                line("proxy_pass", E_("$ds_tcp_target")),
            ],
        )
    for slots in services:
        yield block(
            "server",
            inside=[
                line("listen", f"unix:{_again_socket(slots.key)}"),
                line("set", E_("$ds_key"), checked_key(slots.key)),
                line("proxy_pass", E_("$ds_tcp")),
            ],
        )
    yield block(
        "server",
        inside=[line("listen", f"unix:{TCP_NONE_SOCKET_NAME}"), line("return", E_(""))],
    )


def _fixed(services: list[Slots], table: RoutingTable) -> Iterator[Directive]:
    for slots in services:
        if not slots.listens:
            continue
        key, origin = checked_key(slots.key), f"services.{slots.service}"
        ready = table.ready.get(key, ())
        if ready:
            servers = [literal_address(target.address) for target in ready]
            yield block(
                "upstream",
                f"ready.{key}",
                inside=[line("server", server, "max_fails=0") for server in servers],
                origin=origin,
            )
        yield block(
            "server",
            inside=[
                *(_listen(at, origin=origin) for at in slots.listens),
                line("proxy_pass", f"ready.{key}") if ready else line("return", E_("")),
            ],
            origin=origin,
        )


def _again_socket(key: str) -> str:
    return f"tcp-{checked_key(key)}.sock"


def _listen(at: Listen, *, origin: str) -> Directive:
    ip = ipaddress.ip_address(at.address)
    address = f"[{ip}]" if ip.version == 6 else str(ip)
    return line("listen", f"{address}:{at.port}", origin=origin)
