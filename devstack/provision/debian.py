"""MariaDB out of the distribution's own packages, unpacked privately: nothing is installed.

apt resolves the names, checks the signatures and fetches with the machine's own sources and
proxies, but on lists and a cache of ours; `dpkg-deb -x` unpacks. No root, no maintainer scripts,
no service. What the system already has is not fetched again.
"""

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devstack.bootstrap.index_settings import read_index_settings
from devstack.bootstrap.ownership import is_ours
from devstack.provision.catalog import Entry
from devstack.provision.held_place import held_place, keep
from devstack.provision.path_lookup import find_on_path
from devstack.provision.tool import (
    CACHE,
    DEBIAN,
    Rejections,
    Settings,
    Tool,
    ToolUnavailable,
)
from devstack.provision.versions import fits, parse_version
from devstack.provision.watching import watched
from devstack.steps import StepFailed, StepRunner

_PACKAGES = ("mariadb-server-core", "mariadb-client-core")
_SYSTEM_FOLDERS = "/usr/sbin:/usr/bin"
_MANIFEST = "devstack-tool.json"
_MAIN = "mariadbd"
_PROGRAMS = (_MAIN, "mariadb-install-db", "mariadb", "mariadb-admin", "my_print_defaults")
_TIMEOUT_SECONDS = 300.0

_APT_CONFIG = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
Dir::State "{apt}/state";
Dir::State::lists "{apt}/lists";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{apt}/cache";
Dir::Cache::archives "{apt}/archives";
Dir::Log "{apt}/state";
APT::Sandbox::User "";
Debug::NoLocking "true";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::Assume-Yes "true";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Color "false";
"""


@dataclass(frozen=True, slots=True)
class _Apt:
    """apt with lists and cache of ours."""

    folder: Path
    steps: StepRunner
    variables: dict[str, str]

    def write_config(self) -> None:
        for name in ("state", "lists/partial", "cache", "archives/partial"):
            (self.folder / name).mkdir(parents=True)
        self._config.write_text(_APT_CONFIG.format(apt=self.folder), "utf-8")

    @property
    def _config(self) -> Path:
        return self.folder / "apt.conf"

    async def run(self, arguments: Sequence[str], title: str, *, check: bool = True) -> str:
        result = await self.steps.run(
            ["apt-get", "-c", str(self._config), *arguments],
            title=title,
            env=self.variables,
            cwd=self.folder,
            check=check,
            timeout_seconds=_TIMEOUT_SECONDS,
        )
        return result.output.decode("utf-8", "replace")


async def find_mariadb(
    entry: Entry,
    wanted: str | None,
    steps: StepRunner,
    settings: Settings,
    rejections: Rejections,
) -> Tool:
    """The system's own server outside PATH, else the cache's, else a fresh unpack."""
    outside_path = Settings(settings.cache, settings.offline, _SYSTEM_FOLDERS, settings.environment)
    tool = await find_on_path(entry, wanted, steps, outside_path, rejections, origin=DEBIAN)
    if tool is not None:
        return tool
    tool = _cached(entry, wanted, settings.cache, CACHE)
    if tool is not None:
        return tool
    found = f" ({rejections.text()})" if rejections.reasons else ""
    if settings.offline:
        raise ToolUnavailable(
            f"cannot bring MariaDB: offline, and the cache does not have it{found}",
            "run once without --offline",
        )
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program, path=f"{settings.path}:{_SYSTEM_FOLDERS}") is None:
            raise ToolUnavailable(
                f"cannot bring MariaDB: there is no {program} on this machine, and no wheel "
                f"carries a MySQL server{found}",
                entry.help,
            )
    async with held_place(settings.cache / "tools" / "mariadb", steps, "MariaDB") as scratch:
        tool = _cached(entry, wanted, settings.cache, CACHE)
        if tool is None:
            await _unpack(entry, scratch, steps, settings, found)
            tool = _cached(entry, wanted, settings.cache, DEBIAN)
    if tool is None:
        raise ToolUnavailable(
            f"cannot provide MariaDB {wanted}: this distribution has another version{found}",
            entry.help,
        )
    return tool


def _cached(entry: Entry, wanted: str | None, cache: Path, origin: str) -> Tool | None:
    """The newest unpacked server that fits."""
    tools = [_read(entry, folder, origin) for folder in (cache / "tools").glob("mariadb-*")]
    fitting = [tool for tool in tools if tool is not None and fits(tool.version, wanted)]
    return max(fitting, key=lambda tool: parse_version(tool.version), default=None)


def _read(entry: Entry, folder: Path, origin: str) -> Tool | None:
    if not is_ours(folder):
        return None
    try:
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        binaries = {name: folder / path for name, path in manifest["programs"].items()}
        libraries = [str(folder / path) for path in manifest["libraries"]]
        if binaries[_MAIN].stat().st_size != manifest["size"]:
            return None
        version = str(manifest["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Tool(
        name=entry.name,
        version=version,
        origin=origin,
        binaries=binaries,
        env={"LD_LIBRARY_PATH": os.pathsep.join(libraries)} if libraries else {},
        root=folder / "usr",
        product="MariaDB",
    )


async def _unpack(
    entry: Entry, scratch: Path, steps: StepRunner, settings: Settings, found: str
) -> None:
    if '"' in str(scratch):
        raise ToolUnavailable(f"cannot bring MariaDB: apt cannot use a folder named {scratch}")
    apt = _Apt(scratch / "apt", steps, _variables(settings))
    apt.write_config()
    try:
        archives = await _download(apt)
        made = scratch / "tool"
        made.mkdir(mode=0o755)
        async with watched(steps, "unpack MariaDB", made):
            for archive in archives:
                await steps.run(
                    ["dpkg-deb", "-x", str(archive), str(made)],
                    title=f"unpack {archive.name}",
                    timeout_seconds=_TIMEOUT_SECONDS,
                )
        _tidy(made)
        version = await _write_manifest(entry, made, archives, steps)
    except StepFailed as exc:
        raise ToolUnavailable(
            f"cannot bring MariaDB from the distribution's packages: {exc}{found}",
            "look at the sources of apt (mariadb-server-core must be in them; on Ubuntu it is in "
            f"universe), or {entry.help}",
        ) from exc
    digest = hashlib.sha256(" ".join(archive.name for archive in archives).encode()).hexdigest()
    place = settings.cache / "tools" / f"mariadb-{version}-{digest[:8]}"
    if _read(entry, place, CACHE) is None:  # else the one asked for is another, and this may run
        await keep(made, place)


def _variables(settings: Settings) -> dict[str, str]:
    variables = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    index = read_index_settings(settings.environment)
    for scheme, proxy in (index.proxies or {}).items():
        variables[f"{scheme}_proxy"] = proxy
    if index.no_proxy:
        variables["no_proxy"] = index.no_proxy
    return variables


async def _download(apt: _Apt) -> list[Path]:
    """The archives apt chose: those two packages and what of their dependencies is not installed."""
    async with watched(apt.steps, "read the package lists for MariaDB", apt.folder / "lists"):
        # A third-party source that fails is no reason to stop; a missing package is, and is told.
        await apt.run(["update", "-q"], "read the package lists", check=False)
    install = ["install", "-q", "--reinstall", "--no-remove"]
    listing = await apt.run([*install, "--print-uris", *_PACKAGES], "resolve MariaDB's packages")
    rows = [shlex.split(line) for line in listing.splitlines() if line.startswith("'")]
    sizes = {row[1]: int(row[2]) for row in rows if len(row) >= 3 and row[2].isdigit()}
    archives = apt.folder / "archives"
    async with watched(apt.steps, "download MariaDB", archives, sum(sizes.values()) or None):
        await apt.run([*install, "--download-only", *_PACKAGES], "download MariaDB's packages")
    return sorted(archives.glob("*.deb"))


def _tidy(made: Path) -> None:
    """One prefix, as on a merged system, and no link that leads out of it."""
    lib = made / "lib"
    if lib.is_dir() and not lib.is_symlink():
        shutil.copytree(lib, made / "usr" / "lib", symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(lib)
    root = made.resolve()
    for folder, folders, files in os.walk(made):
        for name in (*folders, *files):
            path = Path(folder) / name
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                path.unlink()


async def _write_manifest(
    entry: Entry, made: Path, archives: Sequence[Path], steps: StepRunner
) -> str:
    programs: dict[str, str] = {}
    for name in _PROGRAMS:
        for folder in ("usr/sbin", "usr/bin"):
            if (made / folder / name).exists():
                programs.setdefault(name, f"{folder}/{name}")
    for name in (_MAIN, *entry.on_path.companions):
        if name not in programs:
            raise ToolUnavailable(
                f"cannot bring MariaDB: the distribution's packages have no {name}", entry.help
            )
    libraries = sorted(
        {
            str(path.parent.relative_to(made))
            for path in (made / "usr" / "lib").glob("*/*.so*")
            if path.parent.name != "mysql"
        }
    )
    result = await steps.run(
        [str(made / programs[_MAIN]), "--version"],
        title="start MariaDB for its version",
        env={"LD_LIBRARY_PATH": os.pathsep.join(str(made / path) for path in libraries)},
        timeout_seconds=_TIMEOUT_SECONDS,
    )
    product, pattern = entry.on_path.products[0]
    match = pattern.search(result.output.decode("utf-8", "replace"))
    if match is None:
        raise ToolUnavailable(f"cannot bring MariaDB: what was unpacked is not {product}")
    manifest = {
        "version": match.group(1),
        "programs": programs,
        "libraries": libraries,
        "size": (made / programs[_MAIN]).stat().st_size,
        "packages": [archive.name for archive in archives],
    }
    (made / _MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
    return match.group(1)
