"""How a routing-table key becomes a replica, in the language of NGINX's HTTP servers.

    request ── key ── choose ──▶ block of the replica's port ──▶ replica
                                   └ refused, or broken and idempotent ──▶ again.sock (this NGINX)
                                        ── chooseAgain ──▶ another replica, or the same by a fresh connection

`TableChoosing` asks the table in shared memory; `FixedChoosing` is for an NGINX without shared
dictionaries, where the ready replicas are part of the configuration.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from devstack.core.routes import GatewayConfig, RoutingTable, Target, Upstream
from devstack.gateway.directive import (
    Directive,
    Expression,
    Value,
    block,
    checked_key,
    line,
    plain_sentence,
)
from devstack.gateway.script import SCRIPT_NAME
from devstack.gateway.settings import (
    ADMIN_SOCKET_NAME,
    AGAIN_SOCKET_NAME,
    STATE_NAME,
    ZONE_BYTES,
    GatewaySettings,
)
from devstack.gateway.upstreams import literal_address, upstream_blocks

E_ = Expression

HOPS_HEADER = "X-Devstack-Hops"
"""Key and tried addresses, for `again`; on every request to a replica, because both get the same bytes."""
REPLICA_HEADER = "X-Devstack-Replica"
"""From `again` to the access log: who answered in the end. No client sees it."""


class Choosing(Protocol):
    """The parts of a configuration that differ by where the table is."""

    def declarations(self) -> Iterator[Directive]:
        """What stands in `http` before the servers."""
        ...

    def servers(self) -> Iterator[Directive]:
        """Servers of its own, on unix sockets."""
        ...

    def headers(self) -> Iterator[Directive]:
        """Further headers of each request to a replica."""
        ...

    def error_pages(self) -> Iterator[Directive]:
        """Inside a server: what is answered where no replica does."""
        ...

    def proxy(self, strip: str | None = None) -> Iterator[Directive]:
        """Inside a location, after `$ds_key` was set: pass the request on, without the path `strip`."""
        ...


@dataclass(frozen=True, slots=True)
class TableChoosing:
    """By the table in NGINX's shared memory."""

    config: GatewayConfig
    settings: GatewaySettings

    def declarations(self) -> Iterator[Directive]:
        state = [f"state={STATE_NAME}"] if self.settings.features.table_state else []
        yield line("js_import", "routes", "from", SCRIPT_NAME)
        yield line("js_shared_dict_zone", f"zone=ds_table:{ZONE_BYTES}", "type=string", *state)
        yield line("js_shared_dict_zone", "zone=ds_turns:128k", "type=number")
        yield line("js_set", E_("$ds_choice"), "routes.choose")
        yield line("js_set", E_("$ds_again"), "routes.chooseAgain")
        yield line("js_set", E_("$ds_again_key"), "routes.keyAgain")
        yield line("js_set", E_("$ds_stripped"), "routes.stripped")
        yield extract("$ds_choice", "$ds_address", "^(?<ds_a>[^ ]+)", "$ds_a")
        yield extract("$ds_choice", "$ds_replica", " (?<ds_r>[^ ]*)$", "$ds_r")
        yield extract("$ds_again", "$ds_again_address", "^(?<ds_b>[^ ]+)", "$ds_b")
        yield extract("$ds_again", "$ds_again_replica", "^[^ ]+ (?<ds_c>[^ ]*)", "$ds_c")
        # The last attempt goes to no block: a block would make it another one.
        yield extract("$ds_again", "$ds_again_dial", "^(?<ds_d>[^ ]+).* more$", "$ds_d")
        yield from (
            block(
                "map",
                E_("$upstream_http_x_devstack_replica"),
                E_(by),
                inside=[
                    line(E_("default"), E_("$upstream_http_x_devstack_replica")),
                    line(E_(""), E_(first)),
                ],
            )
            for by, first in (
                ("$ds_served_by", "$ds_replica"),
                ("$ds_again_by", "$ds_again_replica"),
            )
        )
        blocks = [each for each in upstream_blocks(self.config) if each.kind is Upstream.HTTP]
        yield block(
            "map",
            E_("$ds_dial"),
            E_("$ds_target"),
            inside=[
                line(E_("default"), E_("$ds_now")),
                *(line(each.address, each.name, origin=f"services.{each.key}") for each in blocks),
            ],
        )
        for each in blocks:
            again = line("server", f"unix:{AGAIN_SOCKET_NAME}", "backup", "max_fails=0")
            yield upstream(each.name, [each.address], [again], origin=f"services.{each.key}")

    def servers(self) -> Iterator[Directive]:
        yield block(
            "server",
            inside=[
                line("listen", f"unix:{ADMIN_SOCKET_NAME}"),
                line("access_log", "off"),
                line("client_max_body_size", 2 * ZONE_BYTES),
                line("client_body_buffer_size", 2 * ZONE_BYTES),
                *_unset("ds_entry", "ds_key", "ds_prefix"),
                block("location", E_("="), "/table", inside=[line("js_content", "routes.admin")]),
                block("location", "/", inside=[line("return", 404)]),
            ],
        )
        yield block(
            "server",
            inside=[
                line("listen", f"unix:{AGAIN_SOCKET_NAME}"),
                line("access_log", "off"),
                line("set", E_("$ds_key"), E_("$ds_again_key")),
                *_unset("ds_entry", "ds_prefix"),
                line("set", E_("$ds_now"), E_("$ds_again_address")),
                line("set", E_("$ds_dial"), E_("$ds_again_dial")),
                line("set", E_("$ds_hops"), E_("$http_x_devstack_hops $ds_again_address")),
                line("proxy_set_header", "Host", E_("$ds_host")),
                line("proxy_set_header", "Upgrade", E_("$http_upgrade")),
                line("proxy_set_header", "Connection", E_("$ds_connection")),
                *self.headers(),
                # The first attempt buffered it, if it was to be buffered.
                line("proxy_request_buffering", "off"),
                *self.error_pages(),
                block(
                    "location",
                    "/",
                    inside=[
                        _if_none("$ds_now"),
                        line("add_header", REPLICA_HEADER, E_("$ds_again_by"), "always"),
                        line("proxy_pass", E_("http://$ds_target")),
                    ],
                ),
            ],
        )

    def headers(self) -> Iterator[Directive]:
        yield line("proxy_set_header", HOPS_HEADER, E_("$ds_hops"))

    def error_pages(self) -> Iterator[Directive]:
        for status, name in ((503, "waiting"), (502, "unanswered"), (504, "late")):
            yield line("error_page", status, "=", f"@ds_{name}")
            yield block("location", f"@ds_{name}", inside=[line("js_content", f"routes.{name}")])

    def proxy(self, strip: str | None = None) -> Iterator[Directive]:
        yield line("set", E_("$ds_now"), E_("$ds_address"))
        yield line("set", E_("$ds_dial"), E_("$ds_address"))
        yield line("set", E_("$ds_hops"), E_("$ds_key $ds_address"))
        yield _if_none("$ds_now")
        uri = "$ds_stripped" if strip else ""
        yield line("proxy_pass", E_(f"http://$ds_target{uri}"))


@dataclass(frozen=True, slots=True)
class FixedChoosing:
    """By the configuration itself: each change of the table is a reload."""

    config: GatewayConfig
    table: RoutingTable

    def declarations(self) -> Iterator[Directive]:
        ready = {checked_key(key): targets for key, targets in self.table.ready.items() if targets}
        ready = {key: targets for key, targets in ready.items() if key not in self._tcp_keys()}
        for key, targets in ready.items():
            addresses = [literal_address(target.address) for target in targets]
            yield upstream(f"ready.{key}", addresses, [], origin=f"services.{key}")
        # The prefix keeps a service called `default` or `include` from meaning something to `map`.
        yield block(
            "map",
            E_("key:$ds_key"),
            E_("$ds_target"),
            inside=[
                line(E_("default"), E_("none")),
                *(line(f"key:{key}", f"ready.{key}") for key in ready),
            ],
        )
        yield block(
            "map",
            E_("key:$ds_key"),
            E_("$ds_waiting"),
            inside=[
                line(E_("default"), E_("$ds_key has no replica that is ready")),
                *(
                    line(f"key:{checked_key(key)}", plain_sentence(text))
                    for key, text in self.table.waiting.items()
                ),
            ],
        )
        yield block(
            "map",
            E_("$http_accept"),
            E_("$ds_page"),
            inside=[
                line(E_("default"), "text"),
                line(E_("~text/html"), "html"),
                line(E_("~json"), "json"),
            ],
        )
        yield extract("$upstream_addr", "$ds_answered", "(?<ds_a>[^ ,]+)$", "$ds_a")
        yield block(
            "map",
            E_("$ds_answered"),
            E_("$ds_served_by"),
            inside=[line(*pair) for pair in _replica_names(ready)],
        )

    def servers(self) -> Iterator[Directive]:
        # The variables of log and maps have to be set somewhere, also while the stack has no service.
        yield block(
            "server",
            inside=[
                line("listen", f"unix:{ADMIN_SOCKET_NAME}"),
                line("access_log", "off"),
                *_unset("ds_entry", "ds_key", "ds_prefix"),
                line("return", 404),
            ],
        )

    def headers(self) -> Iterator[Directive]:
        return iter(())

    def error_pages(self) -> Iterator[Directive]:
        pages = (
            ("text", "text/plain", "$ds_waiting"),
            (
                "json",
                "application/json",
                '{"error":"$ds_waiting","service":"$ds_key","status":503}',
            ),
            (
                "html",
                "text/html",
                '<!doctype html><meta http-equiv="refresh" content="1"><p>$ds_waiting</p>',
            ),
        )
        yield line("error_page", 503, E_("@ds_waiting_$ds_page"))
        for name, media_type, text in pages:
            yield block(
                "location",
                f"@ds_waiting_{name}",
                inside=[
                    line("default_type", media_type),
                    line("add_header", "Retry-After", 1, "always"),
                    line("add_header", "Cache-Control", "no-store", "always"),
                    line("return", 503, E_(text)),
                ],
            )

    def proxy(self, strip: str | None = None) -> Iterator[Directive]:
        yield _if_none("$ds_target")
        if strip:
            prefix = strip.replace(".", "[.]")
            yield line("rewrite", E_(f"^{prefix}(?:/(.*))?$"), E_("/$1"), "break")
        yield line("proxy_pass", E_("http://$ds_target"))

    def _tcp_keys(self) -> frozenset[str]:
        return frozenset(s.key for s in self.config.services if s.upstream is Upstream.TCP)


def _replica_names(ready: dict[str, tuple[Target, ...]]) -> Iterator[tuple[Value, Expression]]:
    names = {
        literal_address(target.address): target.replica
        for targets in ready.values()
        for target in targets
    }
    for address, replica in names.items():
        yield Value(address), E_(replica if _is_replica_id(replica) else "")


def _is_replica_id(text: str) -> bool:
    return text.isascii() and all(char.isalnum() or char in ".#_:/-" for char in text)


def upstream(name: str, addresses: list[str], more: list[Directive], *, origin: str) -> Directive:
    """An upstream block. Short-lived kept connections: a drain ends, and no service's own time-out races."""
    return block(
        "upstream",
        name,
        inside=[
            *(line("server", address, "max_fails=0") for address in addresses),
            *more,
            line("keepalive", 16),
            line("keepalive_timeout", "300ms"),
        ],
        origin=origin,
    )


def extract(source: str, variable: str, pattern: str, group: str) -> Directive:
    """A variable that is the part of another which `pattern` finds, or empty."""
    return block("map", E_(source), E_(variable), inside=[line(E_("~" + pattern), E_(group))])


def _if_none(variable: str) -> Directive:
    return block("if", E_(f"({variable}"), E_("="), E_("none)"), inside=[line("return", 503)])


def _unset(*names: str) -> Iterator[Directive]:
    for name in names:
        yield line("set", E_(f"${name}"), E_(""))
