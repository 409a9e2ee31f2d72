"""Node: packages in a folder of their own, replicas run from the working tree.

A `node_modules` of the user's that matches its lock file is used as it is. Otherwise packages go
into a new folder, and a resolver (runners/resolve.mjs) lets the tree's import and require find
them: nothing is written into the tree. Where what `start` runs is not in the tree but made by a
build script (TypeScript), that script runs in a copy of the tree and replicas run from the copy.
"""

import asyncio
import os
import re
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
from devstack.packs.digest import digest_files, digest_values
from devstack.packs.folders import publish, temporary_folder
from devstack.packs.locations import find_location
from devstack.packs.node_copy import copy_program
from devstack.packs.node_files import ProgramFiles, program_files
from devstack.packs.node_manifest import PackageJson, read_package_json
from devstack.packs.node_packages import (
    Packages,
    find_packages,
    manifest_files,
    npm_command,
    npm_environment,
)
from devstack.packs.node_start import Start, find_start
from devstack.packs.python_env import RUNNERS
from devstack.packs.search_path import folders_in_front
from devstack.packs.versions import is_at_least, version_numbers
from devstack.provision.tool import ToolUnavailable
from devstack.provision.versions import fits
from devstack.steps import StepFailed, StepRunner

_LOWEST = "20.6"
_COMPILE_CACHE_SINCE = "22.1"
_FILES = ("server.js", "server.mjs", "index.mjs", "app.mjs")
_BUILD_NICE = 5
_SPAN = re.compile(r"(\S+)\s+-\s+(\S+)")
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
        return tuple(manifest_files(source))

    def source_files(self, source: Path) -> tuple[Path, ...]:
        try:
            package = read_package_json(source)
            start = find_start(source, package, None)
        except CannotPrepare:
            return program_files(source, is_built=False).files  # preparing it tells the mistake
        script = _build_script(source, package, start) if start is not None else None
        return program_files(source, is_built=script is not None).files

    async def prepare(self, request: PrepareRequest, steps: StepRunner) -> Prepared:
        package = read_package_json(request.source)
        start = _start(request, package)
        notes: list[str] = []
        node = await self._node(request, package, notes)
        notes.insert(0, f"node {node.version} ({node.origin})")
        packages = await find_packages(request, package, node, steps, notes)
        script = _build_script(request.source, package, start) if start is not None else None
        program = program_files(request.source, is_built=script is not None)
        source = digest_files(request.source, program.files)
        where = ":".join(map(str, packages.folders))
        layout = str(request.source.relative_to(program.top))
        digest = digest_values("node", node.version, where, source, layout, request.main or "")
        folder, built = request.source, []
        if script is not None:
            copy = await self._build(request, packages, node, script, program, digest, steps)
            folder, built = program.place_in(copy), [copy]
            notes.append(f"`npm run {script}` was run in a copy; replicas run from {folder}")
        elif "build" in package.scripts and start is not None:
            notes.append(f"scripts.build is not run: {start.said_by} is in the working tree")
        variables = _variables(request, node, folder, packages)
        prefix = (
            *packages.programs,
            *folders_in_front(node.binaries["node"], request.environment),
        )
        command = None
        if start is not None:
            notes += [f"starts {' '.join(start.words)} ({start.said_by})", *start.notes]
            command = Command(
                argv=_argv(start, node, packages),
                cwd=folder,
                environment={**variables, **start.environment},
                path_prefix=prefix,
            )
        owned = [modules.parent for modules in packages.folders if packages.is_ours]
        return Prepared(
            digest=digest,
            command=command,
            environment=variables,
            path_prefix=prefix,
            paths=(*owned, *built),
            notes=tuple(notes),
            needs_source=not built,
        )

    async def _node(
        self, request: PrepareRequest, package: PackageJson, notes: list[str]
    ) -> Toolchain:
        wanted = _wanted_version(request.source)
        node = await self._tools("node", wanted or f">={_LOWEST}")
        if wanted is None and package.engines:
            node = await self._engine(package.engines, node, notes)
        if not is_at_least(node.version, _LOWEST):
            raise CannotPrepare(
                f"cannot start {request.service}: needs node {_LOWEST} or newer, "
                f"found {node.version} ({node.origin})",
                "install a newer Node, or correct .nvmrc",
            )
        return node

    async def _engine(self, asked: str, usual: Toolchain, notes: list[str]) -> Toolchain:
        """The Node that `engines` asks for: advice, as npm takes it, where there is none."""
        ranges = [_SPAN.sub(r">=\1 <=\2", text.strip()) for text in asked.split("||")]
        if any(fits(usual.version, text) or not any(map(str.isdigit, text)) for text in ranges):
            return usual
        for text in reversed(ranges):
            try:
                found = await self._tools("node", text)
            except ToolUnavailable:
                continue
            if is_at_least(found.version, _LOWEST):
                return found
        notes.append(f"engines.node of package.json asks for {asked}, which is not to be had")
        return usual

    async def _build(
        self,
        request: PrepareRequest,
        packages: Packages,
        node: Toolchain,
        script: str,
        program: ProgramFiles,
        digest: str,
        steps: StepRunner,
    ) -> Path:
        final = request.build / f"node-{request.service}-{digest}"
        if final.is_dir():
            return final
        with temporary_folder(request.build, "node") as folder:
            made = folder / "tree"
            copying = asyncio.create_task(asyncio.to_thread(copy_program, program, packages, made))
            try:
                await asyncio.shield(copying)
            finally:
                await copying  # cancelled or not: no thread writes into a folder that is removed
            source = program.place_in(made)
            try:
                await steps.run(
                    [*npm_command(node), "run", script],
                    title=f"build {request.service}",
                    env=npm_environment(node, request),
                    cwd=source,
                    nice=_BUILD_NICE,
                )
            except StepFailed as failed:
                raise _explain_build(failed, request, source, script) from failed
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


def _variables(
    request: PrepareRequest, node: Toolchain, folder: Path, packages: Packages
) -> dict[str, str]:
    variables = dict(node.env)
    is_in_copy = folder != request.source
    if packages.is_ours and not is_in_copy:
        (modules,) = packages.folders
        place = {"source": os.path.realpath(folder), "packages": os.path.realpath(modules.parent)}
        address = (RUNNERS / "resolve.mjs").as_uri() + "?" + urlencode(place)
        theirs = request.environment.get("NODE_OPTIONS", "")
        variables["NODE_OPTIONS"] = f"{theirs} --import={address}".strip()
    if is_at_least(node.version, _COMPILE_CACHE_SINCE):
        variables["NODE_COMPILE_CACHE"] = str(request.cache / "node-compile")
    return variables


def _argv(start: Start, node: Toolchain, packages: Packages) -> tuple[str, ...]:
    words = tuple(word.replace("{", "{{").replace("}", "}}") for word in start.words)
    if start.kind == "node":
        return (str(node.binaries["node"]), *words)
    if start.kind == "shell":
        return ("/bin/sh", "-c", words[0])
    own = (folder / words[0] for folder in packages.programs)
    program = next((str(path) for path in own if path.exists()), words[0])
    return (program, *words[1:])


def _wanted_version(source: Path) -> str | None:
    for name in (".nvmrc", ".node-version"):
        try:
            numbers = version_numbers((source / name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        if numbers:
            return str(numbers[0])
    return None


def _explain_build(
    failed: StepFailed, request: PrepareRequest, folder: Path, script: str
) -> CannotPrepare:
    location = find_location(failed.tail, folder)
    said = str(location) if location else f"{failed.reason}\n{failed.tail[-_LARGEST_TAIL:].strip()}"
    return CannotPrepare(
        f"cannot build {request.service}: {said}",
        f"the same by hand: npm run {script}; where that works: it was run in a copy, which has of "
        "other folders what `include`, `references` or `paths` of tsconfig.json name",
    )
