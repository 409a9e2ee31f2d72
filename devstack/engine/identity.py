"""What stays the same for a checkout: its loopback network, host numbers, ports and passwords.

Kept in `.devstack/identity.json` (0600). A new checkout picks by hash of uid and stack ID and tests by
bind; what it picked it keeps, so that callers' addresses survive `down` and `up`.
"""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any

from devstack.core.policy import MOST_ADDRESSES, PORTS_PER_SLOT

FIRST_PORT, LAST_PORT = 10240, 32767
"""Outside the ephemeral range as systems have it (32768-60999), above what people dial by habit."""
PORTS = LAST_PORT - FIRST_PORT + 1
BLOCK = 512
HOSTS = range(2, 2 + MOST_ADDRESSES)
"""Last numbers of the addresses that services of a stack get."""
NETWORKS = 1 << 14
"""/24 networks in 127.64.0.0/10."""

_KEPT: dict[str, type | tuple[type, ...]] = {
    "network": str,
    "hosts": dict,
    "ports": dict,
    "dialled": dict,
    "passwords": dict,
    "gateway_port": (int, NoneType),
    "first_port": int,
}
"""What is written, and as what it must be read."""
_VALUES: dict[str, type] = {"hosts": int, "ports": list, "dialled": int, "passwords": str}
"""And what is in it."""


@dataclass(slots=True)
class Identity:
    """See the module's docstring; mutable, saved by its owner after changes."""

    network: str = ""
    """First three numbers: `127.91.7`."""
    hosts: dict[str, int] = field(default_factory=dict)
    ports: dict[str, list[int]] = field(default_factory=dict)
    """`orders.1` (or `orders.1/grpc`) → the ports a replica in that slot may get."""
    dialled: dict[str, int] = field(default_factory=dict)
    """Where a service has no address of its own: its port on 127.0.0.1."""
    passwords: dict[str, str] = field(default_factory=dict)
    gateway_port: int | None = None
    first_port: int = 0
    of_others: frozenset[int] = field(default=frozenset(), repr=False, compare=False)
    """Ports of other running stacks; not kept, and known since the start of the run."""
    saved: str = field(default="", repr=False, compare=False)
    """What was written last."""
    _untried: Iterator[int] | None = field(default=None, init=False, repr=False, compare=False)
    """What is left of the ports that slots may have; None: to be found anew."""

    @property
    def numbers(self) -> frozenset[int]:
        """Every port that was given out."""
        slots = {port for ports in self.ports.values() for port in ports}
        return frozenset(slots | set(self.dialled.values()))

    def keep_apart(self, others: Collection["Identity"]) -> None:
        """As a run begins: none of the ports that other running stacks have, and no block of theirs.

        Where ports would run out all slots get new ones: of a service that was scaled down, those that
        are no longer there had theirs still.
        """
        if len(self.numbers) > PORTS // 2:
            self.ports.clear()
        self._untried = None
        self.of_others = frozenset(port for other in others for port in other.numbers)
        theirs = {other.first_port for other in others}
        if self.first_port in theirs:
            blocks = self._candidates()[::BLOCK]
            self.first_port = next((b for b in blocks if b not in theirs), self.first_port)

    def host(self, service: str) -> str:
        """The loopback address of a service; `make_room` before leaves one for each of a stack."""
        if service not in self.hosts:
            taken = set(self.hosts.values())
            self.hosts[service] = next(n for n in HOSTS if n not in taken)
        return f"{self.network}.{self.hosts[service]}"

    def make_room(self, services: Collection[str]) -> None:
        """Forget ports of services that are no longer there, and addresses where they would run out."""
        self.ports = {k: ports for k, ports in self.ports.items() if _service(k) in services}
        self._untried = None
        if len(self.hosts.keys() | set(services)) > len(HOSTS):
            self.hosts = {name: n for name, n in self.hosts.items() if name in services}

    def password(self, service: str) -> str:
        """The generated password of a database."""
        if service not in self.passwords:
            self.passwords[service] = secrets.token_urlsafe(18)
        return self.passwords[service]

    def slot_ports(self, key: str, avoid: frozenset[int]) -> tuple[int, ...]:
        """The ports of a slot, none of them equal to a number that somebody dials; none when all are taken."""
        known = self.ports.get(key, [])
        is_kept = avoid.isdisjoint(known) and self.of_others.isdisjoint(known)
        if len(known) == PORTS_PER_SLOT and is_kept:
            return tuple(known)
        if self._untried is None:
            taken = self.numbers | self.of_others
            # the last block is left for `dialled_port`, which chooses from the end
            self._untried = (p for p in self._candidates()[:-BLOCK] if p not in taken)
        taken_since = avoid.union(self.dialled.values())
        fresh = list(islice((p for p in self._untried if p not in taken_since), PORTS_PER_SLOT))
        if len(fresh) < PORTS_PER_SLOT:
            self.ports.pop(key, None)
            return ()
        self.ports[key] = fresh
        return tuple(fresh)

    def dialled_port(self, key: str, is_free: Callable[[int], bool]) -> int:
        """A stable port on 127.0.0.1 for a service that has no address of its own."""
        if key not in self.dialled:
            taken = self.numbers | self.of_others
            candidates = self._candidates()
            # from the end of the checkout's own block, where slots come last, then from elsewhere
            ordered = [*reversed(candidates[:BLOCK]), *reversed(candidates[BLOCK:])]
            self.dialled[key] = next(p for p in ordered if p not in taken and is_free(p))
        return self.dialled[key]

    def _candidates(self) -> list[int]:
        """Ports in the order of preference: the checkout's block, then all after it, around."""
        offset = self.first_port - FIRST_PORT
        return [FIRST_PORT + (offset + n) % PORTS for n in range(PORTS)]


def _service(key: str) -> str:
    """The service that the ports of a slot are for."""
    return key.partition(".")[0]


def choose(
    stack_id: str, are_free: Callable[[str, range], bool], *, uid: int | None = None
) -> Identity:
    """The identity of a new checkout; `are_free(network, ports)` tests a candidate."""
    seed = f"{os.getuid() if uid is None else uid}:{stack_id}"
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")
    blocks = PORTS // BLOCK

    def candidate(attempt: int) -> tuple[str, int]:
        index = (number + attempt) % NETWORKS
        first = FIRST_PORT + ((number // NETWORKS + attempt) % blocks) * BLOCK
        return f"127.{64 + (index >> 8)}.{index & 255}", first

    free = (
        (network, first)
        for network, first in map(candidate, range(blocks))
        if are_free(network, range(first, first + BLOCK))
    )
    # On a machine where every block has a listener, or whose ephemeral range takes all of them, single
    # ports are still tested before each use, and a stolen one is passed over (`endings`).
    network, first = next(free, candidate(0))
    return Identity(network=network, first_port=first)


def load(path: Path) -> Identity | None:
    """The kept identity; None when there is none. What an earlier version did not write is as at first.

    A file that cannot be read as one is set aside as `.bad-<time>`: it may hold the only copy of a
    password that a data folder still has.
    """
    try:
        identity = read(path)
    except FileNotFoundError:
        return None
    if identity is None:
        path.rename(path.with_suffix(f".bad-{int(time.time())}"))
    return identity


def read(path: Path) -> Identity | None:
    """The identity in a file that may be another stack's; None when it is none. Raises OSError."""
    try:
        raw = json.loads(path.read_text())
        known = {name: raw[name] for name in _KEPT if name in raw}
        if known["network"] and all(_is_as_written(name, value) for name, value in known.items()):
            return Identity(**known)
    except (ValueError, TypeError, KeyError):
        pass
    return None


def _is_as_written(name: str, value: Any) -> bool:
    if name not in _VALUES or not isinstance(value, dict):
        return isinstance(value, _KEPT[name])
    inner = [port for ports in value.values() for port in ports] if name == "ports" else []
    return all(isinstance(each, _VALUES[name]) for each in value.values()) and all(
        isinstance(port, int) for port in inner
    )


def save(identity: Identity, path: Path) -> None:
    """Write atomically when something is new; readable by the owner alone, since it holds passwords."""
    content = {"schema": 1} | {name: getattr(identity, name) for name in _KEPT}
    text = json.dumps(content, indent=1, sort_keys=True)
    if text == identity.saved:
        return
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
    identity.saved = text
