"""Whether an address can be listened on, tested the only way that is true: by binding it.

And which ports the system may give to outgoing connections: what is free now may be one of those soon.
"""

import errno
import socket
from enum import StrEnum
from pathlib import Path

EPHEMERAL_SETTING = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_EPHEMERAL = range(32768, 61000)


class Bindable(StrEnum):
    """Result of a test."""

    YES = "free"
    BUSY = "in use"
    FORBIDDEN = "not permitted"
    ABSENT = "not an address of this machine"


def try_bind(address: str, port: int) -> Bindable:
    """Try to bind; SO_REUSEADDR makes TIME_WAIT no obstacle while a listener still is one."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            match error.errno:
                case errno.EACCES | errno.EPERM:
                    return Bindable.FORBIDDEN
                case errno.EADDRNOTAVAIL:
                    return Bindable.ABSENT
                case _:
                    return Bindable.BUSY
        return Bindable.YES


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether nothing listens there, wildcard listeners included."""
    return try_bind(address, port) is Bindable.YES


def ephemeral_ports(setting: Path = EPHEMERAL_SETTING) -> range:
    """The ports that the system takes for outgoing connections, as it is set up now."""
    try:
        first, last = map(int, setting.read_text().split())
    except (OSError, ValueError):
        return USUAL_EPHEMERAL
    return range(first, last + 1)


def are_free(network: str, ports: range, ephemeral: range) -> bool:
    """Whether a candidate network exists here, and its ports are neither listened on nor ephemeral."""
    if ports.start < ephemeral.stop and ephemeral.start < ports.stop:
        return False
    return try_bind(f"{network}.1", 0) is Bindable.YES and all(is_free(port) for port in ports)
