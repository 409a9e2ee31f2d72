"""Who listens on a port: for naming whoever took one, and for telling a replica's own listener.

A listening socket belongs to each process that holds it (workers inherit it), hence several pids.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from devstack.gateway.sockdiag import TcpSocket, TcpState, tcp_sockets
from devstack.gateway.workers import start_time


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket and the process that holds it, where that may be known."""

    address: str
    port: int
    inode: int
    pid: int | None
    """None for another user's process."""
    name: str
    since: float | None
    """Seconds since boot at which the process started."""

    def __str__(self) -> str:
        return f"{self.address}:{self.port} of {self.holder}"

    @property
    def holder(self) -> str:
        """`pid 4242 (node)`."""
        return f"pid {self.pid} ({self.name})" if self.pid is not None else "another user's process"

    def hinders(self, address: str) -> bool:
        """Whether it keeps others from listening on `address` with the same port."""
        return self.address in (address, "0.0.0.0", "::")  # noqa: S104 - compared, not bound


def listeners(port: int) -> list[Listener]:
    """Every listener on `port`, on whatever address."""
    return _held(tcp_sockets(TcpState.LISTEN, port), _all_pids())


def holder_of(address: str, port: int) -> Listener | None:
    """Who keeps others from listening on an address; None when nobody does, or it is not known."""
    return next((each for each in listeners(port) if each.hinders(address)), None)


def listeners_among(pids: Iterable[int], port: int | None = None) -> list[Listener]:
    """The listeners that one of `pids` holds; fast, because only they are looked into."""
    sockets = tcp_sockets(TcpState.LISTEN, port)
    return [each for each in _held(sockets, pids) if each.pid is not None] if sockets else []


def _held(sockets: tuple[TcpSocket, ...], pids: Iterable[int]) -> list[Listener]:
    holders: dict[int, int] = {}
    wanted = {each.inode for each in sockets}
    if wanted:
        for pid in pids:
            for inode in wanted.intersection(_socket_inodes(pid)):
                holders.setdefault(inode, pid)
            if len(holders) == len(wanted):
                break
    return [_listener(each, holders.get(each.inode)) for each in sockets]


def _listener(each: TcpSocket, pid: int | None) -> Listener:
    name = "" if pid is None else _name(pid)
    since = None if pid is None else _since(pid)
    return Listener(each.address, each.port, each.inode, pid, name, since)


def _socket_inodes(pid: int) -> Iterator[int]:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    target = os.readlink(entry.path)  # noqa: PTH115 - thousands of them
                except OSError:
                    continue
                if target.startswith("socket:["):
                    yield int(target[8:-1])
    except OSError:
        return  # gone, or another user's


def _all_pids() -> list[int]:
    try:
        return sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    except OSError:
        return []  # no descriptor is left: then nobody is known to hold what is asked for


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"


def _since(pid: int) -> float | None:
    ticks = start_time(pid)
    return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")
