"""Programs that people write: prepared by their language's pack, started with its command or theirs."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devstack.core.env import Variable
from devstack.core.events import Artifact
from devstack.core.model import ArgvCommand, Service, ShellCommand, SourceProgram, Stop
from devstack.packs.base import (
    CannotPrepare,
    Command,
    FindTool,
    Pack,
    Prepared,
    PrepareRequest,
)
from devstack.packs.detect import all_packs, detect
from devstack.packs.digest import DigestCache, source_digest
from devstack.packs.folders import discard, set_unused_aside
from devstack.packs.plain import PlainPack
from devstack.provision.tool import Settings, ToolUnavailable
from devstack.runtimes.base import PrepareFailed, StartOrder
from devstack.runtimes.process.given import add_given
from devstack.runtimes.process.programs import CannotLaunch, Launch, Surroundings
from devstack.runtimes.process.steps import KeeperSteps
from devstack.runtimes.process.tools import tool_finder
from devstack.steps import StepFailed

DEPS_KEPT_SECONDS = 14 * 24 * 3600.0
"""Installed packages that nothing uses: who goes back to another branch has them at once."""


@dataclass(slots=True)
class SourcePrograms:
    """See the module's docstring. What was prepared is kept across controllers, in `state/artifacts`."""

    surroundings: Surroundings
    settings: Settings
    folder: Path
    """The checkout's `.devstack`."""
    stack_folder: Path
    _prepared: dict[tuple[str, str], Prepared] = field(default_factory=dict)
    _digests: dict[str, DigestCache] = field(default_factory=dict)
    _under_way: int = 0
    """Preparations."""

    async def prepare(self, service: Service, revision: str, steps: KeeperSteps) -> Artifact:
        """Let the pack make the artifact. Raises `PrepareFailed` with file and line where known."""
        self._under_way += 1
        try:
            return await self._prepare(service, revision, steps)
        finally:
            self._under_way -= 1

    async def _prepare(self, service: Service, revision: str, steps: KeeperSteps) -> Artifact:
        program = _program(service)
        try:
            pack = self._pack(service, steps)
            prepared = await pack.prepare(self._request(service, revision), steps)
        except (CannotPrepare, ToolUnavailable) as error:
            raise PrepareFailed(_with_hint(str(error), error.hint)) from error
        except StepFailed as error:
            raise PrepareFailed(str(error)) from error
        if prepared.command is None and program.command is None:
            message = f"cannot start {service.name}: the source does not say how"
            raise PrepareFailed(_with_hint(message, "write `command:` in the stack file"))
        self._prepared[service.name, revision] = prepared
        self._write(service.name, revision, prepared)
        return Artifact(
            digest=prepared.digest,
            is_compiled=not prepared.needs_source,
            notes=prepared.notes,
        )

    async def source_digest(self, service: Service) -> str:
        """Digest of the files that belong to the source, off the loop."""
        program = _program(service)
        if program.source is None and program.command is None:
            return ""
        cache = self._digests.setdefault(service.name, DigestCache.empty())
        try:
            pack = self._pack(service, None)
            return await asyncio.to_thread(source_digest, pack, self._folder_of(program), cache)
        except (CannotPrepare, OSError):
            return ""  # why not is told when it is prepared

    async def launch(self, order: StartOrder, steps: KeeperSteps) -> Launch:
        """The pack's command, or the user's with what makes it find the artifact."""
        service = order.service
        program = _program(service)
        prepared = self._known(service.name, order.revision)
        if prepared is None:
            try:
                await self.prepare(service, order.revision, steps)
            except PrepareFailed as error:
                raise CannotLaunch(str(error), permanent=False) from error
            prepared = self._prepared[service.name, order.revision]
        ports = self.surroundings.ports_for(order.replica, service, order.slot)
        variables = self.surroundings.variables(service, ports)
        environment, told = self._environment(service, variables, prepared)
        argv, cwd = self._command(service, program, prepared, ports)
        return Launch(
            argv=argv,
            env={v.name: v.value for v in environment},
            cwd=cwd,
            warnings=(
                *(
                    f"{v.name} from {' and '.join(v.overrides)} is overridden: {v.origin} wins"
                    for v in variables
                    if v.overrides
                ),
                *told,
            ),
            addresses=tuple((name, f"127.0.0.1:{port}") for name, port in ports.items()),
        )

    def variables(
        self, service: Service, revision: str, ports: Mapping[str, int]
    ) -> tuple[Variable, ...]:
        """See `Programs.variables`; what the pack adds is known once it has prepared the revision."""
        variables = self.surroundings.variables(service, ports)
        prepared = self._known(service.name, revision)
        return variables if prepared is None else self._environment(service, variables, prepared)[0]

    def _environment(
        self, service: Service, variables: tuple[Variable, ...], prepared: Prepared
    ) -> tuple[tuple[Variable, ...], tuple[str, ...]]:
        """All variables of a replica, sorted by name, and what is to be told of them."""
        given, prefix = _given(prepared, _program(service).command is None)
        by_name = {variable.name: variable for variable in variables}
        result, told = add_given(by_name, given, prepared.environment)
        path = result.get("PATH")
        before = path.value if path is not None else os.defpath
        origin = path.origin if path is not None else "pack"
        result["PATH"] = Variable(
            "PATH",
            os.pathsep.join([*map(str, prefix), before]),
            f"pack and {origin}" if prefix and origin != "pack" else origin,
        )
        return tuple(result[name] for name in sorted(result)), told

    def release(self, replica: str) -> None:
        """Its ports may be given to others."""
        self.surroundings.release_ports(replica)

    def _command(
        self, service: Service, program: SourceProgram, prepared: Prepared, ports: Mapping[str, int]
    ) -> tuple[tuple[str, ...], str]:
        folder = str(self._folder_of(program))
        match program.command:
            case ShellCommand(text):
                (line,) = self.surroundings.resolve(service, (text,), ports)
                return ("/bin/sh", "-c", line), folder
            case ArgvCommand(argv):
                return self.surroundings.resolve(service, argv, ports), folder
            case None:
                assert prepared.command is not None
                return _fill(prepared.command, ports, service.stop), str(prepared.command.cwd)

    def _pack(self, service: Service, steps: KeeperSteps | None) -> Pack:
        program = _program(service)
        if program.source is None:
            return PlainPack(_user_command(program) or ())
        packs = all_packs(self._finder(steps))
        return detect(
            Path(program.source),
            packs,
            main=program.main,
            user_command=_user_command(program),
        ).pack

    def _finder(self, steps: KeeperSteps | None) -> FindTool:
        return tool_finder(steps, self.settings)

    def _folder_of(self, program: SourceProgram) -> Path:
        return Path(program.source) if program.source is not None else self.stack_folder

    def _request(self, service: Service, revision: str) -> PrepareRequest:
        program = _program(service)
        return PrepareRequest(
            service=service.name,
            source=self._folder_of(program),
            user_command=_user_command(program),
            main=program.main,
            deps=self._deps,
            build=self.folder / "build",
            cache=self.settings.cache,
            revision=revision,
            environment=self.surroundings.shell(),
            offline=self.settings.offline,
        )

    # ── across controllers ────────────────────────────────────────────────────────────────────

    @property
    def is_preparing(self) -> bool:
        return self._under_way > 0

    async def discard_unused(self, in_use: Mapping[str, Collection[str]]) -> None:
        """Remove what only revisions that are not in use need, of the services that are named.

        Only to be called while nothing is prepared. What belongs to a service that is not named
        is kept: nobody has said yet which revisions of it are in use. Installed packages are kept
        for two weeks after the last use by a service that is named.
        """
        assert not self.is_preparing
        kept: list[Path] = []
        for file in sorted(self._records.glob("*.json")):
            service, _, revision = file.stem.rpartition("-")
            prepared = _read(file)
            if service in in_use and revision not in in_use[service]:
                _mark_as_used(prepared, self._deps)
                self._prepared.pop((service, revision), None)
                file.unlink(missing_ok=True)
            elif prepared is None:
                return  # what it needs cannot be told from what nobody needs
            else:
                kept += prepared.paths
        recent = [entry for entry in self._deps.glob("*") if _is_recent(entry)]
        unused = (
            *set_unused_aside(self.folder / "build", kept),
            *set_unused_aside(self._deps, [*kept, *recent]),
        )
        await asyncio.to_thread(_discard_all, unused)

    @property
    def _deps(self) -> Path:
        return self.folder / "deps"

    @property
    def _records(self) -> Path:
        return self.folder / "state" / "artifacts"

    def _known(self, service: str, revision: str) -> Prepared | None:
        return self._prepared.get((service, revision)) or self._read(service, revision)

    def _file(self, service: str, revision: str) -> Path:
        return self._records / f"{service}-{revision}.json"

    def _write(self, service: str, revision: str, prepared: Prepared) -> None:
        path = self._file(service, revision)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(_to_json(prepared)))
        temporary.replace(path)

    def _read(self, service: str, revision: str) -> Prepared | None:
        prepared = _read(self._file(service, revision))
        if prepared is None:
            return None
        if not all(path.exists() for path in prepared.paths if "pycache" not in path.name):
            return None
        return prepared


def _read(file: Path) -> Prepared | None:
    try:
        return _from_json(json.loads(file.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mark_as_used(prepared: Prepared | None, deps: Path) -> None:
    """The age of what it needs of installed packages counts from here."""
    for path in prepared.paths if prepared is not None else ():
        if path.is_relative_to(deps):
            with contextlib.suppress(FileNotFoundError):
                os.utime(deps / path.relative_to(deps).parts[0])


def _is_recent(folder: Path) -> bool:
    return folder.lstat().st_mtime > time.time() - DEPS_KEPT_SECONDS


def _discard_all(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # it is tried again with the next revision
            discard(folder)


def _program(service: Service) -> SourceProgram:
    assert isinstance(service.program, SourceProgram), f"{service.name} has no source"
    return service.program


def _user_command(program: SourceProgram) -> tuple[str, ...] | str | None:
    match program.command:
        case None:
            return None
        case ShellCommand(text):
            return str(text)
        case ArgvCommand(argv):
            return tuple(str(word) for word in argv)


def _given(prepared: Prepared, is_packs: bool) -> tuple[Mapping[str, str], tuple[Path, ...]]:
    """Variables and PATH folders of the artifact, for the pack's command or for the user's."""
    if is_packs and prepared.command is not None:
        return prepared.command.environment, prepared.command.path_prefix
    return prepared.environment, prepared.path_prefix


def _fill(command: Command, ports: Mapping[str, int], stop: Stop) -> tuple[str, ...]:
    known = {
        "port": next(iter(ports.values()), 0),
        "host": "127.0.0.1",
        "grace": f"{stop.grace_seconds:g}",
    }
    return tuple(word.format_map(known) for word in command.argv)


def _with_hint(message: str, hint: str) -> str:
    """What to mend, and what to do then, be it the source or the stack file: neither is watched."""
    return f"{message}\nhint: {hint or 'mend that'}; then: devstack up -d"


def _to_json(prepared: Prepared) -> dict[str, object]:
    command = prepared.command
    return {
        "digest": prepared.digest,
        "command": None
        if command is None
        else {
            "argv": list(command.argv),
            "cwd": str(command.cwd),
            "environment": dict(command.environment),
            "path_prefix": [str(p) for p in command.path_prefix],
        },
        "environment": dict(prepared.environment),
        "path_prefix": [str(p) for p in prepared.path_prefix],
        "paths": [str(p) for p in prepared.paths],
        "notes": list(prepared.notes),
        "needs_source": prepared.needs_source,
    }


def _from_json(raw: dict[str, object]) -> Prepared:
    command = raw["command"]
    return Prepared(
        digest=str(raw["digest"]),
        command=None
        if not isinstance(command, dict)
        else Command(
            argv=tuple(command["argv"]),
            cwd=Path(command["cwd"]),
            environment=command["environment"],
            path_prefix=tuple(map(Path, command["path_prefix"])),
        ),
        environment=_mapping(raw["environment"]),
        path_prefix=tuple(map(Path, _texts(raw["path_prefix"]))),
        paths=tuple(map(Path, _texts(raw["paths"]))),
        notes=tuple(_texts(raw["notes"])),
        needs_source=raw["needs_source"] is True,
    )


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return [str(item) for item in value]


def _mapping(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return {str(k): str(v) for k, v in value.items()}
