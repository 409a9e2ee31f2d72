"""Which upstream blocks there are: one for each port a replica may get, by the address it would have.

The routing table names replicas by literal address; each configuration maps those it has a block for.
An address without a block is dialled literally, so table and configuration never have to agree.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

from devstack.core.routes import GatewayConfig, Upstream
from devstack.gateway.directive import UnsafeValue, checked_key, checked_port

REPLICA_ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class UpstreamBlock:
    """The upstream block of one port that a replica may listen on."""

    key: str
    slot: int
    address: str
    kind: Upstream

    @property
    def name(self) -> str:
        port = self.address.rpartition(":")[2]
        return f"{self.key}.{self.slot}.{port}"


def upstream_blocks(config: GatewayConfig) -> Iterator[UpstreamBlock]:
    """Every block of `config`; ports without a fixed replica count as slot 0."""
    for slots in config.services:
        key = checked_key(slots.key)
        for slot, ports in enumerate(slots.ports, start=1):
            for port in ports:
                address = f"{REPLICA_ADDRESS}:{checked_port(port)}"
                yield UpstreamBlock(key, slot, address, slots.upstream)
    for key, address in config.direct:
        yield UpstreamBlock(checked_key(key), 0, literal_address(address), Upstream.HTTP)


def literal_address(address: str) -> str:
    """`address` as NGINX dials it: `IP:port` or `[IP]:port`; a host name is refused."""
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ip = ipaddress.ip_address(bare)
        number = int(port) if colon and re.fullmatch(r"[0-9]{1,5}", port) else 0
        checked_port(number)
    except ValueError as exc:
        raise UnsafeValue(f"cannot route to {address!r}: not a literal IP:port") from exc
    if (ip.version == 6) != (bare != host):
        raise UnsafeValue(f"cannot route to {address!r}: write an IPv6 address in brackets")
    return f"[{ip}]:{number}" if ip.version == 6 else f"{ip}:{number}"
