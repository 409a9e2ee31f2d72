"""Python: packages in an environment of their own, replicas run from the working tree.

WSGI applications are served by waitress and ASGI applications by uvicorn, both brought by the pack
in a folder behind the user's own packages; a plain script is run as it is.
"""

import os
from pathlib import Path

from devstack.packs.base import CannotPrepare, Command, FindTool, Prepared, PrepareRequest
from devstack.packs.digest import digest_files, digest_values
from devstack.packs.python_apps import App
from devstack.packs.python_env import (
    RUNNERS,
    PythonEnvironment,
    make_environment,
    make_server_folder,
)
from devstack.packs.python_files import program_files
from devstack.packs.python_manifest import FILES, find_manifest
from devstack.packs.python_modules import Broken
from devstack.packs.python_start import find_app, resolve_app
from devstack.steps import StepRunner


class PythonPack:
    """One language: Python 3."""

    name = "python"
    is_compiled = False

    def __init__(self, tools: FindTool) -> None:
        self._tools = tools

    def matches(self, source: Path) -> bool:
        if any((source / name).is_file() for name in FILES):
            return True
        return any(source.glob("*.py")) or (source / "requirements").is_dir()

    def manifest_files(self, source: Path) -> tuple[Path, ...]:
        return find_manifest(source).files

    def source_files(self, source: Path) -> tuple[Path, ...]:
        return program_files(source)

    async def prepare(self, request: PrepareRequest, steps: StepRunner) -> Prepared:
        app = _application(request)
        environment = await make_environment(request, self._tools, steps)
        source = digest_files(request.source, program_files(request.source))
        bytecode = _bytecode_folder(request, environment, source)
        caches = (bytecode, request.build / f"pycache-packages-{environment.key}")
        variables = {
            "PYTHONUNBUFFERED": "1",
            "PYTHONPYCACHEPREFIX": str(bytecode),
            # Often set against files beside the code; these lie elsewhere and save half the start.
            "PYTHONDONTWRITEBYTECODE": "",
            **environment.variables,
        }
        root = app.root if app is not None else request.source
        if root != request.source:
            variables["PYTHONPATH"] = _in_front(root, request.environment.get("PYTHONPATH"))
        command, servers = await self._command(app, request, environment, variables, steps)
        owned = [environment.folder] if environment.folder and not environment.is_users else []
        return Prepared(
            digest=digest_values("python", environment.key, source, request.main or ""),
            command=command,
            environment=variables,
            path_prefix=environment.path_prefix,
            paths=(*owned, *caches, *servers),
            notes=(*environment.notes, *_found(app, request)),
        )

    async def _command(
        self,
        app: App | None,
        request: PrepareRequest,
        environment: PythonEnvironment,
        variables: dict[str, str],
        steps: StepRunner,
    ) -> tuple[Command | None, tuple[Path, ...]]:
        if app is None or request.user_command is not None:
            return None, ()
        python = str(environment.interpreter)
        if app.interface == "script":
            argv = [python, str(app.file)]
            if app.file.stem == "__main__" and app.file.parent != app.root:
                argv = [python, "-m", app.module.removesuffix(".__main__")]
            return self._started(argv, request, environment, variables), ()
        lock = RUNNERS / f"{app.interface}.lock.txt"
        servers = await make_server_folder(
            lock, environment.interpreter, request, self._tools, steps
        )
        argv = [python, str(RUNNERS / "serve.py"), app.interface, _braces(app.target)]
        argv += ["--root", _braces(str(app.root)), "--libraries", _braces(str(servers))]
        argv += ["--host", "{host}", "--port", "{port}", "--grace", "{grace}"]
        return self._started(argv, request, environment, variables), (servers,)

    def _started(
        self,
        argv: list[str],
        request: PrepareRequest,
        environment: PythonEnvironment,
        variables: dict[str, str],
    ) -> Command:
        return Command(
            argv=tuple(argv),
            cwd=request.source,
            environment=variables,
            path_prefix=environment.path_prefix,
        )


def _application(request: PrepareRequest) -> App | None:
    """What to run; None where the user's own command says it."""
    if request.user_command is not None:
        return None
    source = request.source
    found = resolve_app(source, request.main) if request.main else find_app(source)
    match found:
        case App():
            return found
        case Broken():
            place = os.path.relpath(found.file, source)
            raise CannotPrepare(
                f"cannot start {request.service}: {place}:{found.line}: {found.message}",
                "correct that line",
            )
        case None if request.main:
            raise CannotPrepare(
                f"cannot start {request.service}: {request.main} is not in {source}",
                "correct `main`: package.module:attribute, package.module:factory() or a script",
            )
        case None:
            raise CannotPrepare(
                f"cannot start {request.service}: no application found in {source}: looked for a "
                "Flask, FastAPI, Starlette, Quart, Django, Falcon, Bottle or Litestar object, a "
                'create_app() and `if __name__ == "__main__"`',
                "say what to run: `main: package.module:app`, or `command: [python, …]`",
            )


def _bytecode_folder(request: PrepareRequest, environment: PythonEnvironment, source: str) -> Path:
    """Where this revision keeps its compiled files.

    Python takes a compiled file for fresh by whole-second time and size, so a quick save of equal
    length would run old code: each source gets a folder of its own. Packages do not change with
    the source; their part is shared between revisions, or each save would compile them again.
    """
    folder = request.build / f"pycache-{request.service}-{digest_values(environment.key, source)}"
    for libraries, shared in _shared_bytecode(environment, request).items():
        link = folder / str(libraries).lstrip("/")
        if link.is_symlink() or request.source.is_relative_to(libraries):
            continue
        shared.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(shared)
        except FileExistsError:
            continue  # made by a prepare of the same source at the same time
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _shared_bytecode(environment: PythonEnvironment, request: PrepareRequest) -> dict[Path, Path]:
    """Folders that no edit of the source changes, each with where its compiled files go."""
    standard = environment.interpreter.resolve().parent.parent / "lib"
    per_user = (standard, request.cache / "servers", RUNNERS)
    shared = {
        folder: request.cache / "pycache" / digest_values(str(folder), environment.version)
        for folder in per_user
    }
    if environment.folder is not None:
        shared[environment.folder / "lib"] = request.build / f"pycache-packages-{environment.key}"
    return shared


def _found(app: App | None, request: PrepareRequest) -> tuple[str, ...]:
    if app is None:
        return ()
    place = f"{os.path.relpath(app.file, request.source)}:{app.line}"
    match app.interface:
        case "script":
            return (f"runs {os.path.relpath(app.file, request.source)}",)
        case "wsgi":
            return (f"serves {app.target} ({place}) with waitress",)
        case "asgi":
            return (f"serves {app.target} ({place}) with uvicorn",)


def _in_front(root: Path, others: str | None) -> str:
    return f"{root}{os.pathsep}{others}" if others else str(root)


def _braces(text: str) -> str:
    """A literal text in an argv where `{port}` is replaced."""
    return text.replace("{", "{{").replace("}", "}}")
