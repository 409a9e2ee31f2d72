"""secantusdb, which stands in for MongoDB: a Python program in an environment of its own.

It is never imported and shares no packages with devstack. The environment is made by uv from a
lock with hashes, under another name, and renamed when it was seen to start.
"""

import hashlib
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from devstack.bootstrap.index_settings import read_index_settings, variables_for_uv
from devstack.bootstrap.interpreter import lock_digest
from devstack.bootstrap.lockfile import Package, find_package, read_lock, requirements
from devstack.bootstrap.ownership import is_ours
from devstack.bootstrap.platform_tags import pick_wheel, this_machine
from devstack.provision.catalog import ENTRIES, Entry
from devstack.provision.held_place import held_place, keep
from devstack.provision.path_lookup import find_on_path
from devstack.provision.tool import (
    CACHE,
    PATH,
    WHEEL,
    Rejections,
    Settings,
    Tool,
    ToolUnavailable,
)
from devstack.provision.watching import watched
from devstack.steps import StepFailed, StepRunner

_LOCK = "secantusdb"
_PYTHONS = ">=3.10 <3.14"
_MANIFEST = "devstack-tool.json"
_TIMEOUT_SECONDS = 600.0
"""Of each step; a download over a slow line is the longest."""
_GAPS = (  # what it answers wrongly, and what it refuses
    "an array inside a dotted path of an aggregation expression counts as missing "
    '({$sum: "$items.price"} is 0), $lookup through an array joins nothing, capped collections '
    "ignore max, and there are no text, hashed or wildcard indexes"
)


async def find(
    entry: Entry,
    wanted: str | None,
    find_uv: Callable[[], Awaitable[Tool]],
    steps: StepRunner,
    settings: Settings,
    rejections: Rejections,
) -> Tool:
    """The stand-in; run it as `binaries["python"] -I -m secantus`. uv is sought only to install it."""
    place = settings.cache / "tools" / f"secantusdb-{lock_digest(_LOCK)[:8]}"
    tool = _read(entry, wanted, place, CACHE)
    if tool is not None:
        return tool
    found = f" ({rejections.text()})" if rejections.reasons else ""
    async with held_place(place, steps, "secantusdb") as scratch:
        tool = _read(entry, wanted, place, CACHE)
        if tool is None:
            try:
                uv = await find_uv()
            except ToolUnavailable as exc:
                message = f"cannot bring secantusdb, which stands in for MongoDB: {exc}{found}"
                raise ToolUnavailable(message, exc.hint) from exc
            await _make(entry, scratch, place, uv, steps, settings, found)
            tool = _read(entry, wanted, place, WHEEL)
    if tool is None:
        raise ToolUnavailable(f"cannot bring secantusdb: {place} is damaged", f"remove {place}")
    return tool


def _read(entry: Entry, wanted: str | None, place: Path, origin: str) -> Tool | None:
    python = place / "bin" / "python"
    try:
        version = str(json.loads((place / _MANIFEST).read_text("utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not is_ours(place) or not python.exists():  # the interpreter it was made with is gone
        return None
    asked = f"MongoDB {wanted}" if wanted else "MongoDB"
    return Tool(
        name=entry.name,
        version=version,
        origin=origin,
        binaries={"python": python},
        env={},
        root=place,
        notes=(f"secantusdb {version} (beta) stands in for {asked}: {_GAPS}",),
        product="secantusdb",
    )


async def _make(
    entry: Entry,
    scratch: Path,
    place: Path,
    uv: Tool,
    steps: StepRunner,
    settings: Settings,
    found: str,
) -> None:
    packages = read_lock(_LOCK)
    secantusdb = find_package(packages, "secantusdb")
    python = await _interpreter(secantusdb, steps, settings, entry)
    listing = scratch / "requirements.txt"
    listing.write_text(requirements(packages), "utf-8")
    made = scratch / "tool"
    try:
        index = read_index_settings(settings.environment, offline=settings.offline)
        variables = variables_for_uv(index, secantusdb.index)
        program = str(uv.binaries["uv"])
        venv = (program, "venv", "--quiet", "--no-project", "--relocatable")
        sync = (program, "pip", "sync", "--quiet", "--require-hashes", "--only-binary", ":all:")
        await steps.run(
            [*venv, "--python", str(python), str(made)],
            title="make an environment for secantusdb",
            env=variables,
            cwd=scratch,
            timeout_seconds=_TIMEOUT_SECONDS,
        )
        async with watched(steps, "install secantusdb", made):
            await steps.run(
                [*sync, "--python", str(made / "bin" / "python"), str(listing)],
                title="install secantusdb",
                env=variables,
                cwd=scratch,
                timeout_seconds=_TIMEOUT_SECONDS,
            )
            # Seen to start, and its bytecode written, before anybody waits for it.
            await steps.run(
                [str(made / "bin" / "python"), "-I", "-m", "secantus", "--help"],
                title="start secantusdb",
                cwd=scratch,
                timeout_seconds=_TIMEOUT_SECONDS,
            )
    except StepFailed as exc:
        hint = "run once without --offline" if settings.offline else entry.help
        raise ToolUnavailable(f"cannot bring secantusdb: {exc}{found}", hint) from exc
    manifest = {
        "version": secantusdb.version,
        "sha256": hashlib.sha256(listing.read_bytes()).hexdigest(),
    }
    (made / _MANIFEST).write_text(json.dumps(manifest), "utf-8")
    await keep(made, place)


async def _interpreter(
    package: Package, steps: StepRunner, settings: Settings, entry: Entry
) -> Path:
    """The interpreter devstack runs on where it is of a fitting version, else one on PATH."""
    own = sys.version_info[:2]
    if (3, 10) <= own < (3, 14):
        python, version = Path(getattr(sys, "_base_executable", sys.executable)), own
    else:
        tool = await find_on_path(
            ENTRIES["python"], _PYTHONS, steps, settings, Rejections(), origin=PATH
        )
        if tool is None:
            raise ToolUnavailable(
                f"cannot bring secantusdb: it needs Python 3.10 to 3.13, and PATH has none; "
                f"devstack runs on {own[0]}.{own[1]}",
                f"install Python 3.13, or {entry.help}",
            )
        python = tool.binaries["python3"]
        major, minor = (int(part) for part in tool.version.split(".")[:2])
        version = (major, minor)
    tag = f"-cp{version[0]}{version[1]}-"
    wheels = [wheel for wheel in package.wheels if tag in wheel.file_name]
    machine = this_machine()
    if pick_wheel(wheels, machine) is None:
        raise ToolUnavailable(
            f"cannot bring secantusdb to {machine}: it comes for Linux and for macOS on Apple "
            "processors",
            entry.help,
        )
    return python
