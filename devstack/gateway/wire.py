"""How a `RoutingTable` is written for NGINX's script: one entry per key, small enough for its memory."""

import hashlib
import json
from dataclasses import dataclass

from devstack.core.routes import GatewayConfig, RoutingTable, Target, Upstream
from devstack.gateway.directive import checked_key
from devstack.gateway.settings import ZONE_BYTES
from devstack.gateway.upstreams import literal_address

MOST_BYTES = ZONE_BYTES // 2
"""Half the zone: a replaced value is written beside the old one, and pages are not filled to the last byte."""

Entry = dict[str, object]


class TableTooLarge(Exception):
    """A routing table does not fit into NGINX's shared memory."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"cannot replace the routing table: it has {size} bytes, {MOST_BYTES} fit\n"
            "hint: scale down, or split the stack"
        )


@dataclass(frozen=True, slots=True)
class WireTable:
    """A table as NGINX is given it."""

    generation: str
    """A hash of the content: the same table has the same generation."""
    entries: dict[str, Entry]
    request: bytes
    """Body for the admin socket."""
    state: bytes
    """Content of the dictionary's state file."""
    tcp: bytes
    """Content of the file that the stream module's script reads."""


def to_wire(table: RoutingTable, tcp_keys: frozenset[str]) -> WireTable:
    """`table` in the script's words; raises `UnsafeValue` for host names and `TableTooLarge`."""
    http: dict[str, Entry] = {}
    tcp: dict[str, Entry] = {}
    for key in sorted(table.ready.keys() | table.waiting.keys()):
        checked_key(key)
        if key in tcp_keys:
            tcp[key] = {
                "r": [[literal_address(t.address), t.replica] for t in table.ready.get(key, ())]
            }
            continue
        entry: Entry = {
            "r": [[literal_address(t.address), _replica(t)] for t in table.ready.get(key, ())]
        }
        if key in table.waiting:
            entry["w"] = table.waiting[key][:500]
        if key in table.since:
            entry["s"] = int(table.since[key])
        http[key] = entry
    content = _dump([http, tcp])
    generation = hashlib.sha256(content).hexdigest()[:16]
    wire = WireTable(
        generation=generation,
        entries=http,
        request=_dump({"generation": generation, "table": http}),
        state=_state(generation, http),
        tcp=_dump(tcp),
    )
    if max(len(wire.request), len(wire.state)) > MOST_BYTES:
        raise TableTooLarge(max(len(wire.request), len(wire.state)))
    return wire


def tcp_keys(config: GatewayConfig) -> frozenset[str]:
    """The keys that are balanced by the stream module."""
    return frozenset(slots.key for slots in config.services if slots.upstream is Upstream.TCP)


def _state(generation: str, entries: dict[str, Entry]) -> bytes:
    values = {"=generation": generation}
    values |= {key: _dump(entry).decode() for key, entry in entries.items()}
    return _dump({key: {"value": value} for key, value in values.items()})


def _replica(target: Target) -> str:
    # The script joins address and replica with a space.
    return "".join(target.replica.split())


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
