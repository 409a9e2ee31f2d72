"""Node: packages in a folder of their own, replicas run from the working tree.

A `node_modules` of the user's that matches its lock file is used as it is. Otherwise packages go
into a new folder, and a resolver (runners/resolve.mjs) lets the tree's import and require find
them: nothing is written into the tree. Where what `start` runs is not in the tree but made by a
build script (TypeScript), that script runs in a copy of the tree and replicas run from the copy.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path
from urllib.parse import urlencode

from devstack.packs.base import (
    CannotPrepare,
    Command,
    FindTool,
    Prepared,
    PrepareRequest,
    Toolchain,
)
from devstack.packs.certificates import trust_the_system
from devstack.packs.digest import (
    digest_files,
    digest_of_contents,
    digest_values,
    walk_source,
    walk_tree,
)
from devstack.packs.folders import publish, temporary_folder
from devstack.packs.locations import find_location
from devstack.packs.node_manifest import (
    Lock,
    PackageJson,
    find_lock,
    linked_packages,
    read_package_json,
    why_not_fitting,
    why_outdated,
    workspace_root,
)
from devstack.packs.node_start import Start, find_start
from devstack.packs.python_env import RUNNERS
from devstack.packs.search_path import folders_in_front
from devstack.packs.versions import is_at_least, version_numbers
from devstack.steps import StepFailed, StepRunner

_CODE = (
    ".js",
    ".mjs",
    ".cjs",
    ".ts",
    ".mts",
    ".cts",
    ".tsx",
    ".jsx",
    ".json",
    ".html",
    ".ejs",
    ".pug",
)
_LOWEST = "20.6"
_COMPILE_CACHE_SINCE = "22.1"
_FILES = ("server.js", "server.mjs", "index.mjs", "app.mjs")
_BUILD_NICE = 5
_LARGEST_TAIL = 4000


class NodePack:
    """One language: JavaScript (and what builds to it) on Node."""

    name = "node"
    is_compiled = False

    def __init__(self, tools: FindTool) -> None:
        self._tools = tools

    def matches(self, source: Path) -> bool:
        return (source / "package.json").is_file() or any(
            (source / name).is_file() for name in _FILES
        )

    def manifest_files(self, source: Path) -> tuple[Path, ...]:
        lock = find_lock(source)
        names = ("package.json", ".npmrc")
        return (*(source / name for name in names), *((lock.file,) if lock else ()))

    def source_files(self, source: Path) -> tuple[Path, ...]:
        try:
            package = read_package_json(source)
        except CannotPrepare:
            return _source_files(source, None)  # preparing it tells the mistake
        start = find_start(source, package, None)
        script = _build_script(source, package, start) if start is not None else None
        return _source_files(source, script)

    async def warm(self, request: PrepareRequest, steps: StepRunner) -> None:
        """Nothing: npm keeps its own cache, and what to fetch is known only with the service."""

    async def prepare(self, request: PrepareRequest, steps: StepRunner) -> Prepared:
        package = read_package_json(request.source)
        start = _start(request, package)
        node = await self._node(request)
        notes = [f"node {node.version} ({node.origin})"]
        modules = await self._modules(request, package, node, steps, notes)
        script = _build_script(request.source, package, start) if start is not None else None
        files = _source_files(request.source, script)
        source = digest_files(request.source, files)
        digest = digest_values("node", node.version, str(modules), source, request.main or "")
        folder, built = request.source, []
        if script is not None:
            folder = await self._build(request, modules, node, script, files, digest, steps)
            built = [folder]
            notes.append(f"`npm run {script}` was run in a copy; replicas run from {folder}")
        elif "build" in package.scripts and start is not None:
            notes.append(f"scripts.build is not run: {start.said_by} is in the working tree")
        is_users = modules == request.source / "node_modules"
        variables = _variables(request, node, folder, modules)
        prefix = (
            *((modules / ".bin",) if modules is not None else ()),
            *folders_in_front(node.binaries["node"], request.environment),
        )
        command = None
        if start is not None:
            notes += [f"starts {' '.join(start.words)} ({start.said_by})", *start.notes]
            command = Command(
                argv=_argv(start, node, modules),
                cwd=folder,
                environment={**variables, **start.environment},
                path_prefix=prefix,
            )
        owned = [modules.parent] if modules is not None and not is_users else []
        return Prepared(
            digest=digest,
            command=command,
            environment=variables,
            path_prefix=prefix,
            paths=(*owned, *built),
            notes=tuple(notes),
            needs_source=not built,
        )

    async def _node(self, request: PrepareRequest) -> Toolchain:
        wanted = _wanted_version(request.source) or f">={_LOWEST}"
        node = await self._tools("node", wanted)
        if not is_at_least(node.version, _LOWEST):
            raise CannotPrepare(
                f"cannot start {request.service}: needs node {_LOWEST} or newer, "
                f"found {node.version} ({node.origin})",
                "install a newer Node, or correct .nvmrc",
            )
        return node

    async def _modules(
        self,
        request: PrepareRequest,
        package: PackageJson,
        node: Toolchain,
        steps: StepRunner,
        notes: list[str],
    ) -> Path | None:
        """The `node_modules` to use; None where the package asks for nothing."""
        source = request.source
        lock = find_lock(source)
        theirs = source / "node_modules"
        if lock is not None and theirs.is_dir():
            reason = why_not_fitting(theirs, lock)
            if reason is None:
                notes.append(f"node_modules of the service matches {lock.file.name}: used as it is")
                return theirs
            notes.append(f"node_modules of the service is not used: {reason}")
        if lock is None and (root := workspace_root(source)) is not None:
            return _workspace_modules(root, notes)
        if not package.has_packages:
            return None
        if lock is not None and lock.manager != "npm":
            raise _other_manager(request, lock)
        if linked := linked_packages(package, lock.file if lock is not None else None):
            raise CannotPrepare(
                f"cannot install packages of {request.service}: {linked[0]} is a folder beside it",
                f"run `npm install` in {source}; node_modules is then used as it is",
            )
        if lock is None:
            notes.append(
                "no lock file: versions are what npm picks today (`npm install` makes one)"
            )
        elif outdated := why_outdated(lock.file, package):
            raise CannotPrepare(
                f"cannot install packages of {request.service}: {outdated}",
                f"run `npm install` in {source}",
            )
        return await self._install(request, lock, node, steps)

    async def _install(
        self, request: PrepareRequest, lock: Lock | None, node: Toolchain, steps: StepRunner
    ) -> Path:
        manifests = [file for file in self.manifest_files(request.source) if file.is_file()]
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
                    [*_npm(node), *verb, "--no-audit", "--no-fund", "--loglevel=warn"],
                    title=f"install packages of {request.service}",
                    env=_npm_environment(node, request),
                    cwd=made,
                )
            except StepFailed as failed:
                raise _explain_install(failed, request, lock) from failed
            (made / "node_modules").mkdir(exist_ok=True)
            publish(made, final)
        return modules

    async def _build(
        self,
        request: PrepareRequest,
        modules: Path | None,
        node: Toolchain,
        script: str,
        files: tuple[Path, ...],
        digest: str,
        steps: StepRunner,
    ) -> Path:
        final = request.build / f"node-{request.service}-{digest}"
        if final.is_dir():
            return final
        with temporary_folder(request.build, "node") as folder:
            made = folder / "tree"
            _copy_tree(request.source, made, files)
            if modules is not None:
                (made / "node_modules").symlink_to(modules)
            try:
                await steps.run(
                    [*_npm(node), "run", script],
                    title=f"build {request.service}",
                    env=_npm_environment(node, request),
                    cwd=made,
                    nice=_BUILD_NICE,
                )
            except StepFailed as failed:
                raise _explain_build(failed, request, made, script) from failed
            publish(made, final)
        return final


def _start(request: PrepareRequest, package: PackageJson) -> Start | None:
    if request.user_command is not None:
        return None
    source = request.source
    start = find_start(source, package, request.main)
    if start is None:
        raise CannotPrepare(
            f"cannot start {request.service}: {source} has no scripts.start, no `main` that exists, "
            "and none of server.js, index.js, app.js, main.js",
            "say what to run: scripts.start in package.json, `main: FILE`, or `command: [node, …]`",
        )
    is_missing = start.kind == "node" and start.file and not (source / start.file).is_file()
    if is_missing and _build_script(source, package, start) is None:
        candidates = (f"{start.file}.js", f"{start.file}/index.js", f"{start.file}.cjs")
        if not any((source / name).is_file() for name in candidates):
            raise CannotPrepare(
                f"cannot start {request.service}: {start.said_by} names {start.file}, which is not "
                f"in {source}",
                "correct it, or add scripts.build if it is made by one",
            )
    return start


def _build_script(source: Path, package: PackageJson, start: Start) -> str | None:
    """The script that makes what `start` runs: only where that is not in the working tree."""
    if "prestart" in package.scripts and start.said_by == "scripts.start":
        return "prestart"
    if start.kind != "node" or not start.file or "build" not in package.scripts:
        return None
    is_there = any(
        (source / (start.file + end)).is_file() for end in ("", ".js", ".cjs", "/index.js")
    )
    is_output = start.file.removeprefix("./").startswith(("dist/", "build/", "out/"))
    return "build" if is_output or not is_there else None


def _source_files(source: Path, build_script: str | None) -> tuple[Path, ...]:
    """A build script may read any file of the tree; what runs from the tree may write there."""
    if build_script is not None:
        return walk_tree(source)
    return walk_source(source, code_suffixes=_CODE)


def _variables(
    request: PrepareRequest, node: Toolchain, folder: Path, modules: Path | None
) -> dict[str, str]:
    variables = dict(node.env)
    is_beside = modules is not None and modules.parent == folder
    is_in_copy = folder != request.source
    if modules is not None and not is_beside and not is_in_copy:
        place = {"source": os.path.realpath(folder), "packages": os.path.realpath(modules.parent)}
        address = (RUNNERS / "resolve.mjs").as_uri() + "?" + urlencode(place)
        theirs = request.environment.get("NODE_OPTIONS", "")
        variables["NODE_OPTIONS"] = f"{theirs} --import={address}".strip()
    if is_at_least(node.version, _COMPILE_CACHE_SINCE):
        variables["NODE_COMPILE_CACHE"] = str(request.cache / "node-compile")
    return variables


def _argv(start: Start, node: Toolchain, modules: Path | None) -> tuple[str, ...]:
    words = tuple(word.replace("{", "{{").replace("}", "}}") for word in start.words)
    if start.kind == "node":
        return (str(node.binaries["node"]), *words)
    if start.kind == "shell":
        return ("/bin/sh", "-c", words[0])
    own = modules / ".bin" / words[0] if modules is not None else None
    program = str(own) if own is not None and own.exists() else words[0]
    return (program, *words[1:])


def _workspace_modules(root: Path, notes: list[str]) -> Path:
    lock = find_lock(root)
    modules = root / "node_modules"
    reason = "it is not there"
    if lock is not None and modules.is_dir():
        found = why_not_fitting(modules, lock)
        if found is None:
            notes.append(f"node_modules of the workspace {root} is used as it is")
            return modules
        reason = found
    raise CannotPrepare(
        f"cannot use the packages of the workspace {root}: node_modules: {reason}",
        f"run `npm ci` in {root}",
    )


def _copy_manifests(manifests: list[Path], folder: Path) -> None:
    """Manifest and lock file; without the package's own scripts, which want its source files."""
    for file in manifests:
        if file.name == "package.json":
            document = json.loads(file.read_text(encoding="utf-8-sig"))
            document.pop("scripts", None)
            (folder / file.name).write_text(json.dumps(document, indent=2), encoding="utf-8")
        else:
            shutil.copyfile(file, folder / file.name)


def _copy_tree(source: Path, target: Path, files: tuple[Path, ...]) -> None:
    for file in files:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed while we looked
            shutil.copy2(file, copy, follow_symlinks=False)


def _npm(node: Toolchain) -> list[str]:
    """npm is a script: run by this very node, whatever else is on PATH."""
    npm = node.binaries.get("npm")
    if npm is None:
        raise CannotPrepare(
            f"cannot install packages: node {node.version} ({node.origin}) has no npm beside it",
            "install npm (Debian, Ubuntu: apt-get install npm)",
        )
    return [str(node.binaries["node"]), os.path.realpath(npm)]


def _npm_environment(node: Toolchain, request: PrepareRequest) -> dict[str, str]:
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


def _wanted_version(source: Path) -> str | None:
    for name in (".nvmrc", ".node-version"):
        try:
            numbers = version_numbers((source / name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        if numbers:
            return str(numbers[0])
    return None


def _other_manager(request: PrepareRequest, lock: Lock) -> CannotPrepare:
    return CannotPrepare(
        f"cannot install packages of {request.service}: {lock.file.name} is a lock file of "
        f"{lock.manager}, and devstack installs with npm",
        f"run `{lock.manager} install` in {request.source}; node_modules is then used as it is",
    )


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


def _explain_build(
    failed: StepFailed, request: PrepareRequest, folder: Path, script: str
) -> CannotPrepare:
    location = find_location(failed.tail, folder)
    said = str(location) if location else f"{failed.reason}\n{failed.tail[-_LARGEST_TAIL:].strip()}"
    return CannotPrepare(
        f"cannot build {request.service}: {said}", f"the same by hand: npm run {script}"
    )
