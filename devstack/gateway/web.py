"""Which HTTP servers NGINX has: one for all services' own addresses, and the public gateway's.

Requests get their routing-table key from the address dialled, the route or the host name; `choosing`
says how a key becomes a replica.
"""

import ipaddress
from collections.abc import Iterable, Iterator

from devstack.core.routes import GatewayConfig, Listen, Route, RoutingTable, Upstream
from devstack.gateway.choosing import REPLICA_HEADER, Choosing, FixedChoosing, TableChoosing
from devstack.gateway.directive import (
    Directive,
    Expression,
    UnsafeValue,
    Value,
    block,
    checked_key,
    checked_path,
    line,
)
from devstack.gateway.settings import ACCESS_LOG_NAME, GatewaySettings

E_ = Expression


class DuplicateRoute(Exception):
    """Two routes take the same path."""


def web_servers(
    config: GatewayConfig, settings: GatewaySettings, table: RoutingTable
) -> Iterator[Directive]:
    """Everything inside `http`."""
    features = settings.features
    choosing: Choosing = (
        TableChoosing(config, settings) if features.shared_table else FixedChoosing(config, table)
    )
    yield from _limits(settings)
    yield from _headers()
    yield from _log()
    yield from choosing.declarations()
    listens = [
        (listen, slots)
        for slots in config.services
        if slots.upstream is Upstream.HTTP
        for listen in slots.listens
    ]
    if listens:
        yield _map(
            "$server_addr:$server_port",
            "$ds_dialled",
            [
                (
                    Value(f"{ipaddress.ip_address(listen.address)}:{listen.port}"),
                    Value(checked_key(slots.key)),
                )
                for listen, slots in listens
            ],
        )
        yield _services_server(
            [(listen, f"services.{slots.service}") for listen, slots in listens], choosing
        )
    if config.public:
        yield from _public_servers(config, choosing)
    yield from choosing.servers()


def _limits(settings: GatewaySettings) -> Iterator[Directive]:
    features = settings.features
    for name in features.temp_paths:
        yield line(name, name.removesuffix("_path"))
    yield line("server_tokens", "off")
    yield line("default_type", "text/plain")
    yield line("absolute_redirect", "off")
    yield line("types_hash_max_size", 2048)
    yield line("variables_hash_max_size", 2048)
    yield line("server_names_hash_bucket_size", 512)
    yield line("map_hash_max_size", 65536)
    yield line("map_hash_bucket_size", 512)
    # What a service would take from its caller directly, NGINX must not refuse or drop.
    yield line("underscores_in_headers", "on")
    yield line("ignore_invalid_headers", "off")
    yield line("large_client_header_buffers", 8, "128k")
    yield line("client_max_body_size", 0)
    yield line("client_body_buffer_size", "128k")
    yield line("client_body_timeout", "1h")  # cuts silent gRPC streams, too
    yield line("send_timeout", "1h")
    yield line("tcp_nodelay", "on")
    # A reload ends idle client connections: late where NGINX can, else they are not kept at all.
    if features.shared_table and features.keepalive_min_timeout:
        yield line("keepalive_timeout", "1h")
        yield line("keepalive_min_timeout", "3s")
        yield line("keepalive_requests", 1_000_000)
    elif features.shared_table:
        yield line("keepalive_timeout", "1h")
        yield line("keepalive_requests", 1_000_000)
    else:
        yield line("keepalive_timeout", 0)
    yield line("proxy_http_version", "1.1")
    yield line("proxy_connect_timeout", "1s")
    yield line("proxy_read_timeout", "1h")
    yield line("proxy_send_timeout", "1h")
    yield line("proxy_socket_keepalive", "on")
    yield line("proxy_buffering", "off")  # responses are streamed
    yield line("proxy_buffer_size", "72k")
    yield line(
        "proxy_buffers", 8, "16k"
    )  # unused without buffering, but checked against the others
    yield line("proxy_busy_buffers_size", "80k")
    yield line("proxy_redirect", "off")
    # Health is devstack's to know: only what was refused, or may be repeated, goes elsewhere.
    yield line("proxy_next_upstream", "error", "timeout")
    yield line("proxy_next_upstream_tries", 2)
    yield line("proxy_next_upstream_timeout", "10s")
    yield line("proxy_pass_header", "Server")
    yield line("proxy_pass_header", "Date")
    yield line("proxy_hide_header", REPLICA_HEADER)
    yield line(
        "proxy_ignore_headers",
        *("X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Limit-Rate"),
        *("X-Accel-Buffering", "X-Accel-Charset"),
    )


def _headers() -> Iterator[Directive]:
    default = E_("default")
    yield _map("$http_upgrade", "$ds_connection", [(default, E_("upgrade")), (E_(""), E_(""))])
    yield _map("$http_host", "$ds_host", [(default, E_("$http_host")), (E_(""), E_("localhost"))])
    # The trace starts here unless the caller has a valid one. Its first span is named by the trace.
    yield _map("$request_id", "$ds_new_span", [(E_("~^(?<ds_span>.{16})"), E_("$ds_span"))])
    yield _map(
        "$http_traceparent",
        "$ds_traceparent",
        [
            (default, E_("00-$request_id-$ds_new_span-01")),
            (
                E_(
                    "~^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-|$)"
                ),
                E_("$http_traceparent"),
            ),
        ],
    )
    yield _map("$ds_traceparent", "$ds_trace", [(E_("~^..-(?<ds_id>[0-9a-f]{32})"), E_("$ds_id"))])
    yield _map("$request_uri", "$ds_path", [(E_("~^(?<ds_raw>[^?]*)"), E_("$ds_raw"))])
    # On services' own addresses: a web page can make a browser dial them, but only by a name with dots.
    yield _map(
        "$host",
        "$ds_foreign",
        [
            (default, E_("1")),
            (E_(""), E_("0")),
            (E_("~^[^.]+$"), E_("0")),
            (E_("~^[0-9.]+$"), E_("0")),
            (E_("~^\\[[0-9a-f:.]+\\]$"), E_("0")),
            (E_("~[.](localhost|internal)$"), E_("0")),
        ],
    )


def _log() -> Iterator[Directive]:
    fields = {
        "time": "$msec",
        "method": "$request_method",
        "path": "$ds_path",
        "status": "$status",
        "duration": "$request_time",
        "service": "$ds_key",
        "replica": "$ds_served_by",
        "trace": "$ds_trace",
        "entry": "$ds_entry",
        "bytes": "$bytes_sent",
    }
    text = ",".join(f'"{name}":"{variable}"' for name, variable in fields.items())
    yield line("log_format", "devstack", "escape=json", E_("{" + text + "}"))
    yield line("access_log", ACCESS_LOG_NAME, "devstack")


def _services_server(listens: list[tuple[Listen, str]], choosing: Choosing) -> Directive:
    return block(
        "server",
        inside=[
            *(_listen(listen, origin=origin) for listen, origin in listens),
            *_set(ds_entry="service", ds_key="$ds_dialled", ds_prefix=""),
            *_wrong_host(E_("($ds_foreign)")),
            *_common_headers(choosing),
            *choosing.error_pages(),
            block("location", "/", inside=choosing.proxy()),
        ],
    )


def _public_servers(config: GatewayConfig, choosing: Choosing) -> Iterator[Directive]:
    start = tuple(_set(ds_entry="gateway", ds_key="", ds_prefix=""))
    default_listens = [_listen(at, "default_server", origin="gateway") for at in config.public]
    listens = [_listen(at, origin="gateway") for at in config.public]
    yield block("server", inside=[*default_listens, *start, _say_wrong_host()])

    names = ["localhost", "127.0.0.1", "[::1]", "gateway", f"{config.stack}.localhost"]
    for at in config.public:
        ip = ipaddress.ip_address(at.address)
        names.append(f"[{ip}]" if ip.version == 6 else str(ip))
    routes = {_clean_path(route): route for route in config.routes}
    if len(routes) != len(config.routes):
        raise DuplicateRoute("cannot route one path to two services: see gateway.routes")
    yield block(
        "server",
        inside=[
            *listens,
            line("server_name", *dict.fromkeys(names)),
            *start,
            *_common_headers(choosing),
            *_edge_headers(),
            *choosing.error_pages(),
            *(
                location
                for path, route in sorted(routes.items(), key=lambda each: -len(each[0]))
                for location in _locations(path, route, choosing)
            ),
            *([] if "/" in routes else [_no_route()]),
        ],
    )

    hosts = {
        f"{checked_key(slots.key)}.{config.stack}.localhost": slots.key
        for slots in config.services
        if slots.upstream is Upstream.HTTP and "." not in slots.key
    } | {
        f"{key}.{config.stack}.localhost": key
        for key in (checked_key(direct) for direct, _ in config.direct)
        if "." not in key
    }
    if hosts:
        yield _map(
            "$host", "$ds_by_host", [(Value(host), Value(key)) for host, key in hosts.items()]
        )
        yield block(
            "server",
            inside=[
                *listens,
                line("server_name", *hosts),
                *_set(ds_entry="gateway", ds_key="$ds_by_host", ds_prefix=""),
                *_common_headers(choosing),
                *_edge_headers(),
                *choosing.error_pages(),
                block("location", "/", inside=choosing.proxy()),
            ],
        )


def _locations(path: str, route: Route, choosing: Choosing) -> Iterator[Directive]:
    origin = f"gateway.routes.{path}"
    key = checked_key(route.to)
    inside = list(_set(ds_key=key))
    strip = path if route.strip and path != "/" else None
    if strip:
        inside.append(line("set", E_("$ds_prefix"), strip))
    if route.timeout_seconds is not None:
        time = _milliseconds(route.timeout_seconds)
        inside += [line("proxy_read_timeout", time), line("proxy_send_timeout", time)]
        # A retry must not make it longer than the user said.
        inside += [
            line("proxy_next_upstream_timeout", _milliseconds(min(route.timeout_seconds, 10)))
        ]
    if route.stream:
        inside.append(line("proxy_request_buffering", "off"))
    inside += choosing.proxy(strip)
    if path == "/":
        yield block("location", "/", inside=inside, origin=origin)
        return
    # Two locations: `location /x` takes /xyz as well, `location /x/` alone answers /x with a redirect.
    yield block("location", E_("="), path, inside=inside, origin=origin)
    yield block("location", E_("^~"), f"{path}/", inside=inside, origin=origin)


def _clean_path(route: Route) -> str:
    path = checked_path(route.path)
    return path.rstrip("/") or "/"


def _milliseconds(seconds: float) -> str:
    if not 0 < seconds < 10_000_000:
        raise UnsafeValue(f"cannot wait {seconds!r} seconds")
    return f"{max(1, round(seconds * 1000))}ms"


def _no_route() -> Directive:
    return block(
        "location",
        "/",
        inside=[line("return", 404, E_("no route of the gateway takes $ds_path"))],
    )


def _wrong_host(condition: Expression) -> Iterator[Directive]:
    yield block("if", condition, inside=[_say_wrong_host()])


def _say_wrong_host() -> Directive:
    return line("return", 421, E_("no service of this stack has the host name $host"))


def _common_headers(choosing: Choosing) -> Iterator[Directive]:
    yield line("proxy_set_header", "Host", E_("$ds_host"))
    yield line("proxy_set_header", "Upgrade", E_("$http_upgrade"))
    yield line("proxy_set_header", "Connection", E_("$ds_connection"))
    yield line("proxy_set_header", "traceparent", E_("$ds_traceparent"))
    yield from choosing.headers()


def _edge_headers() -> Iterator[Directive]:
    yield line("proxy_set_header", "X-Real-IP", E_("$remote_addr"))
    yield line("proxy_set_header", "X-Forwarded-For", E_("$proxy_add_x_forwarded_for"))
    yield line("proxy_set_header", "X-Forwarded-Proto", E_("$scheme"))
    yield line("proxy_set_header", "X-Forwarded-Host", E_("$ds_host"))
    yield line("proxy_set_header", "X-Forwarded-Prefix", E_("$ds_prefix"))


def _set(**variables: str) -> Iterator[Directive]:
    for name, value in variables.items():
        yield line("set", E_(f"${name}"), E_(value))


def _listen(at: Listen, *more: str, origin: str) -> Directive:
    ip = ipaddress.ip_address(at.address)
    address = f"[{ip}]" if ip.version == 6 else str(ip)
    return line("listen", f"{address}:{at.port}", *more, origin=origin)


def _map(
    source: str, variable: str, entries: Iterable[tuple[Value | Expression, Value | Expression]]
) -> Directive:
    inside = [line(key, value) for key, value in entries]
    return block("map", E_(source), E_(variable), inside=inside)
