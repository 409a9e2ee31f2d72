"""Whether a replica listens where it should: a green dot must not be some other program's.

The port must be listened on by one of the replica's own processes; a foreign listener is an error that
names the pid, and a replica that listens elsewhere is told what would help.
"""

from collections.abc import Collection
from dataclasses import dataclass

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


def elsewhere(service: str, port: int, own: Collection[int]) -> str:
    """What to say when the replica listens, but not on the port it was given; empty when it does not."""
    found = sorted(listeners_among(own), key=lambda each: each.port)
    if not found:
        return ""
    other = found[0]
    where = f"[{other.address}]" if ":" in other.address else other.address
    return (
        f"{service} listens on {where}:{other.port}, not on $PORT ({port}): "
        f"read PORT, or set port: {{fixed: {other.port}}}"
    )


def beyond_loopback(own: Collection[int]) -> list[Listener]:
    """Listeners of the replica that other machines can reach."""
    return [
        each
        for each in listeners_among(own)
        if not each.address.startswith("127.")
        and each.address != "::1"
        and not each.address.startswith("::ffff:127.")
    ]


def _best(found: list[Listener], host: str) -> Listener | None:
    """The listener that answers at `host`, else one on the other loopback."""
    for each in found:
        if each.hinders(host):
            return each
    return next((each for each in found if each.address == "::1"), None)


def _literal(listener: Listener, host: str, port: int) -> str:
    address = host if listener.hinders(host) else listener.address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
