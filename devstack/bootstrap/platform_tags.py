"""Which of a version's wheels runs on this machine, judged by file name alone.

Only the platform part counts: the wheels meant here hold programs, not Python modules.
"""

import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devstack.bootstrap.lockfile import Wheel

Kind = Literal["glibc", "musl", "macos"]
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l", "i386": "i686"}
_LEGACY_GLIBC = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


@dataclass(frozen=True, slots=True)
class Target:
    """A machine as wheel names see it: its C library or macOS version, and its processor."""

    kind: Kind
    version: tuple[int, int]
    machine: str

    def __str__(self) -> str:
        names = {"glibc": "Linux, glibc", "musl": "Linux, musl", "macos": "macOS"}
        return f"{self.machine} ({names[self.kind]} {self.version[0]}.{self.version[1]})"


def this_machine() -> Target:
    machine = platform.machine().lower()
    machine = _MACHINES.get(machine, machine)
    if sys.platform == "darwin":
        return Target("macos", _version(platform.mac_ver()[0]), machine)
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    if libc.startswith("glibc "):
        return Target("glibc", _version(libc.removeprefix("glibc ")), machine)
    if any(Path("/lib").glob("ld-musl-*")):
        return Target("musl", (1, 2), machine)
    return Target("glibc", (0, 0), machine)


def pick_wheel(wheels: Iterable[Wheel], target: Target) -> Wheel | None:
    """The wheel for this machine; of several the one that asks for the least."""
    fitting = [(need, wheel) for wheel in wheels if (need := _need(wheel, target)) is not None]
    return min(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _need(wheel: Wheel, target: Target) -> tuple[int, int] | None:
    """The lowest system version the wheel asks for, None where it does not fit."""
    tags = wheel.file_name.removesuffix(".whl").rsplit("-", 1)[-1].split(".")
    needs = [need for tag in tags if (need := _tag_need(tag, target)) is not None]
    fitting = [need for need in needs if need <= target.version]
    return min(fitting) if fitting else None


def _tag_need(tag: str, target: Target) -> tuple[int, int] | None:
    if tag == "any":
        return (0, 0)
    machines = {target.machine}
    if target.kind == "macos":
        machines |= {"arm64"} if target.machine == "aarch64" else set()
        machines.add("universal2")
    machine = next((name for name in machines if tag.endswith(f"_{name}")), None)
    if machine is None:
        return None
    system = tag.removesuffix(f"_{machine}")
    if system in _LEGACY_GLIBC and target.kind == "glibc":
        return _LEGACY_GLIBC[system]
    prefix = {"glibc": "manylinux_", "musl": "musllinux_", "macos": "macosx_"}[target.kind]
    if not system.startswith(prefix):
        return None
    return _version(system.removeprefix(prefix).replace("_", "."))


def _version(text: str) -> tuple[int, int]:
    parts = [int(part) for part in text.split(".")[:2] if part.isdigit()]
    major, minor = [*parts, 0, 0][:2]
    return major, minor
