"""Which `node_modules` a Node service uses: the user's own where it fits, else one made elsewhere.

Where it cannot be compared with its lock file it is used as it is, and that is told. devstack
installs with npm alone, and no workspace: what it cannot make, the user is asked to.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from devstack.packs.base import CannotPrepare, PrepareRequest, Toolchain
from devstack.packs.certificates import trust_the_system
from devstack.packs.digest import digest_of_contents, digest_values
from devstack.packs.folders import publish, temporary_folder
from devstack.packs.node_locks import Lock, find_lock, why_not_fitting
from devstack.packs.node_manifest import (
    PackageJson,
    linked_packages,
    read_package_json,
    why_outdated,
)
from devstack.packs.versions import version_numbers
from devstack.steps import StepFailed, StepRunner

_LARGEST_TAIL = 4000


@dataclass(frozen=True, slots=True)
class Packages:
    """Where a service finds its packages."""

    folders: tuple[Path, ...] = ()
    """Each a `node_modules`, the nearest first; none where the service asks for no packages."""
    is_ours: bool = False
    """Made by devstack, and not where Node looks by itself."""

    @property
    def programs(self) -> tuple[Path, ...]:
        return tuple(folder / ".bin" for folder in self.folders)

    def within(self, source: Path) -> Path | None:
        """The `node_modules` that the service's own folder has, or would have if it were ours."""
        return next((f for f in self.folders if self.is_ours or f.parent == source), None)


def manifest_files(source: Path) -> list[Path]:
    """Files whose change needs other packages."""
    lock = find_lock(source)
    files = (source / "package.json", source / ".npmrc", *((lock.file,) if lock else ()))
    return [file for file in files if file.is_file()]


async def find_packages(
    request: PrepareRequest,
    package: PackageJson,
    node: Toolchain,
    steps: StepRunner,
    notes: list[str],
) -> Packages:
    """The packages to use. Raises `CannotPrepare` with what the user can do."""
    source = request.source
    lock = find_lock(source)
    if lock is not None:
        root = lock.file.parent
        where = "the service" if root == source else f"the workspace {root}"
        is_there = (root / "node_modules").is_dir()
        reason = why_not_fitting(root / "node_modules", lock) if is_there else "it is not there"
        if reason is None:
            notes.append(
                f"node_modules of {where} matches {lock.file.name}: used as it is"
                if lock.is_comparable
                else f"node_modules of {where} is used as it is: devstack cannot compare it with "
                f"{lock.file.name}"
            )
            theirs = dict.fromkeys((source / "node_modules", root / "node_modules"))
            return Packages(tuple(folder for folder in theirs if folder.is_dir()))
        if not package.has_packages:
            return Packages()
        if root != source:
            raise CannotPrepare(
                f"cannot use the packages of the workspace {root}: node_modules: {reason}",
                f"{lock.install} in {root}",
            )
        if lock.manager != "npm":
            raise CannotPrepare(
                f"cannot install packages of {request.service}: {lock.file.name} is a lock file of "
                f"{lock.manager}, and devstack installs with npm; node_modules: {reason}",
                f"{lock.install} in {source}; node_modules is then used as it is",
            )
        if is_there:
            notes.append(f"node_modules of the service is not used: {reason}")
    if not package.has_packages:
        return Packages()
    if linked := linked_packages(package, lock.file if lock is not None else None):
        raise CannotPrepare(
            f"cannot install packages of {request.service}: {linked[0]} is a folder beside it",
            f"run `npm install` in {source}; node_modules is then used as it is",
        )
    if lock is None:
        notes.append("no lock file: versions are what npm picks today (`npm install` makes one)")
    elif outdated := why_outdated(lock.file, package):
        raise CannotPrepare(
            f"cannot install packages of {request.service}: {outdated}",
            f"run `npm install` in {source}",
        )
    return Packages((await _install(request, lock, node, steps),), is_ours=True)


def npm_command(node: Toolchain) -> list[str]:
    """npm is a script: run by this very node, whatever else is on PATH."""
    npm = node.binaries.get("npm")
    if npm is None:
        raise CannotPrepare(
            f"cannot install packages: node {node.version} ({node.origin}) has no npm beside it",
            "install npm (Debian, Ubuntu: apt-get install npm)",
        )
    return [str(node.binaries["node"]), os.path.realpath(npm)]


def npm_environment(node: Toolchain, request: PrepareRequest) -> dict[str, str]:
    """The user's own settings win, the place of the cache among them."""
    path = request.environment.get("PATH", os.defpath)
    ours = (
        trust_the_system(request.environment)
        | dict(node.env)
        | {
            "PATH": f"{node.binaries['node'].parent}{os.pathsep}{path}",
            "npm_config_update_notifier": "false",
        }
    )
    if not {"npm_config_cache", "NPM_CONFIG_CACHE"} & request.environment.keys():
        ours["npm_config_cache"] = str(request.cache / "npm")
    if request.offline:
        ours["npm_config_offline"] = "true"
    return ours


async def _install(
    request: PrepareRequest, lock: Lock | None, node: Toolchain, steps: StepRunner
) -> Path:
    manifests = manifest_files(request.source)
    major = str(version_numbers(node.version)[0])
    key = digest_values("node", major, os.uname().machine, digest_of_contents(manifests))
    final = request.deps / f"node-{key}"
    modules = final / "node_modules"
    if modules.is_dir():
        return modules
    with temporary_folder(request.deps, "node") as folder:
        made = folder / "packages"
        made.mkdir()
        _copy_manifests(manifests, made)
        verb = ["ci"] if lock is not None else ["install", "--no-package-lock"]
        try:
            await steps.run(
                [*npm_command(node), *verb, "--no-audit", "--no-fund", "--loglevel=warn"],
                title=f"install packages of {request.service}",
                env=npm_environment(node, request),
                cwd=made,
            )
        except StepFailed as failed:
            raise _explain_install(failed, request, lock) from failed
        (made / "node_modules").mkdir(exist_ok=True)
        publish(made, final)
    return modules


def _copy_manifests(manifests: list[Path], folder: Path) -> None:
    """Manifest and lock file; without the package's own scripts, which want its source files."""
    for file in manifests:
        if file.name == "package.json":
            document = dict(read_package_json(file.parent).document)
            document.pop("scripts", None)
            (folder / file.name).write_text(json.dumps(document, indent=2), encoding="utf-8")
        else:
            shutil.copyfile(file, folder / file.name)


def _explain_install(
    failed: StepFailed, request: PrepareRequest, lock: Lock | None
) -> CannotPrepare:
    output = failed.tail[-_LARGEST_TAIL:].strip()
    hint = "the same by hand: npm ci" if lock is not None else "the same by hand: npm install"
    if request.offline:
        hint = "it was not to use the network (--offline); run once without"
    return CannotPrepare(
        f"cannot install packages of {request.service}: {failed.reason}"
        + (f"\n{output}" if output else ""),
        hint,
    )
