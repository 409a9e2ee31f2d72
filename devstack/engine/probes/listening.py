"""Whether a replica listens where it should: a green dot must not be some other program's.

The port must be listened on by one of the replica's own processes; a foreign listener is an error that
names the pid, and a replica that listens elsewhere is told what would help.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from devstack.core.env import port_variable
from devstack.core.model import Service
from devstack.gateway.listeners import Listener, holder_of, listeners_among
from devstack.gateway.sockdiag import TcpState, tcp_sockets


@dataclass(frozen=True, slots=True)
class Listening:
    """What was found about one expected port."""

    address: str | None
    """Literal address by which it is reached; None when it is not."""
    reason: str = ""
    inode: int | None = None


def somebody_listens(port: int) -> bool:
    """Whether anything listens on a port at all; the cheap question before the others."""
    return bool(tcp_sockets(TcpState.LISTEN, port))


def is_listened_on(literal: str) -> bool:
    """Whether anything listens at an address; the same port of another stack's does not count."""
    host, _, port = literal.rpartition(":")
    reached = (host.strip("[]"), "0.0.0.0", "::")  # noqa: S104 - looked for, not bound
    return any(each.address in reached for each in tcp_sockets(TcpState.LISTEN, int(port)))


def still_listens(port: int, inode: int) -> bool:
    """Whether the very socket found earlier is still there."""
    return any(each.inode == inode for each in tcp_sockets(TcpState.LISTEN, port))


def look(service: str, port: int, host: str, own: Collection[int]) -> Listening:
    """Find the replica's own listener on a port that is reached at `host`."""
    ours = listeners_among(own, port)
    best = _best(ours, host)
    if best is not None:
        return Listening(_literal(best, host, port), inode=best.inode)
    stranger = holder_of(host, port)
    if stranger is not None:
        return Listening(None, f"port {port} is in use by {stranger.holder}, not by {service}")
    return Listening(None, f"nothing listens on {host}:{port}")


def elsewhere(
    service: Service, endpoint: str, ports: Mapping[str, int], own: Collection[int]
) -> str:
    """What to say when the replica does not listen on the port of an endpoint, but somewhere else.

    `ports` are those it was given, by endpoint: where it listens on one of them, it does so rightly.
    Empty when it listens nowhere else.
    """
    others = [each for each in listeners_among(own) if each.port not in ports.values()]
    if not others:
        return ""
    other = min(others, key=lambda each: each.port)
    setting = "port" if len(service.endpoints) == 1 else endpoint
    fix = f"set {setting}: {{fixed: {other.port}}}"
    listens = f"{service.name} listens on {_bracketed(other.address)}:{other.port}"
    if any(each.fixed and each.name == endpoint for each in service.endpoints):
        return f"{listens}, not on its fixed port {ports[endpoint]}: {fix}"
    variable = port_variable(service, endpoint)
    return f"{listens}, not on ${variable} ({ports[endpoint]}): read {variable}, or {fix}"


def beyond_loopback(own: Collection[int]) -> list[Listener]:
    """Listeners of the replica that other machines can reach."""
    return [
        each
        for each in listeners_among(own)
        if not each.address.startswith("127.")
        and each.address != "::1"
        and not each.address.startswith("::ffff:127.")
    ]


def exposure(service: str, exposed: Collection[Listener]) -> str:
    """What to say of such listeners: the same for each replica, so that it is told once, without ports."""
    where = " and ".join(sorted({_bracketed(each.address) for each in exposed}))
    return (
        f"{service} listens on {where}: other machines may reach it; "
        'set HOST: "${self.host}" in its environment and listen on $HOST'
    )


def _best(found: list[Listener], host: str) -> Listener | None:
    """The listener that answers at `host`, else one on the other loopback."""
    for each in found:
        if each.hinders(host):
            return each
    return next((each for each in found if each.address == "::1"), None)


def _literal(listener: Listener, host: str, port: int) -> str:
    address = host if listener.hinders(host) else listener.address
    return f"{_bracketed(address)}:{port}"


def _bracketed(address: str) -> str:
    """As it stands before a port."""
    return f"[{address}]" if ":" in address else address
