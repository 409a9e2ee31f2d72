"""Which files belong to which locked version: reads the locks that ship beside this module.

The locks are PEP 751 files written by uv (see `locks/relock`). They give names, versions, file
names, sizes and hashes; where to fetch from is the user's own index, and only where the user has
configured none the index that the lock names. Standard library only.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from devstack.bootstrap.interpreter import lock_path


@dataclass(frozen=True, slots=True)
class Wheel:
    """One file of the lock; `url` is where the lock's own index had it."""

    file_name: str
    size: int
    sha256: str
    url: str


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    index: str
    marker: str | None
    wheels: tuple[Wheel, ...]


class LockDamaged(Exception):
    """A shipped lock is missing or cannot be read."""


def read_lock(name: str) -> tuple[Package, ...]:
    """All packages of a shipped lock."""
    path = lock_path(name)
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        return tuple(_package(entry) for entry in document["packages"])
    except OSError as exc:
        raise LockDamaged(f"cannot read the lock {path}: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise LockDamaged(f"cannot read the lock {path}: {exc}") from exc


def find_package(packages: Iterable[Package], name: str) -> Package:
    for package in packages:
        if package.name == name:
            return package
    raise LockDamaged(f"cannot find {name} in the shipped locks")


def requirements(packages: Iterable[Package]) -> str:
    """The lock in the form `uv pip sync --require-hashes` reads: no URLs, so mirrors work."""
    lines: list[str] = []
    for package in packages:
        marker = f" ; {package.marker}" if package.marker else ""
        hashes = "".join(f" \\\n    --hash=sha256:{wheel.sha256}" for wheel in package.wheels)
        if not hashes:
            raise LockDamaged(f"cannot use {package.name} {package.version}: the lock has no wheel")
        lines.append(f"{package.name}=={package.version}{marker}{hashes}")
    return "\n".join(lines) + "\n"


def _package(entry: dict[str, object]) -> Package:
    wheels = entry.get("wheels", [])
    if not isinstance(wheels, list):
        raise TypeError("wheels is not a list")
    return Package(
        name=str(entry["name"]),
        version=str(entry["version"]),
        index=str(entry["index"]),
        marker=str(entry["marker"]) if "marker" in entry else None,
        wheels=tuple(_wheel(wheel) for wheel in wheels),
    )


def _wheel(entry: dict[str, object]) -> Wheel:
    url, size, hashes = str(entry["url"]), entry["size"], entry["hashes"]
    if not isinstance(size, int) or not isinstance(hashes, dict):
        raise TypeError("a wheel without size or hashes")
    file_name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    return Wheel(file_name, size, str(hashes["sha256"]), url)
