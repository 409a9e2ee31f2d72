"""Makes the environment a Python service runs in, or takes the user's own when it fits.

A new folder per (manifest, lock, interpreter, folders of packages), made relocatable under a
temporary name and renamed when whole; the project itself is not installed: it runs from its folder.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.packs.base import CannotPrepare, FindTool, PrepareRequest, Toolchain
from devstack.packs.certificates import trust_the_system
from devstack.packs.digest import digest_files, digest_of_contents, digest_values
from devstack.packs.folders import publish, set_aside, temporary_folder
from devstack.packs.python_files import local_packages, package_files, project_files
from devstack.packs.python_install import install_command
from devstack.packs.python_manifest import Manifest, find_manifest, wanted_python
from devstack.packs.python_setup import read_setup
from devstack.packs.python_uv import uv_workspace
from devstack.packs.search_path import folders_in_front
from devstack.steps import StepFailed, StepRunner

RUNNERS = Path(__file__).parent / "runners"

_ENVIRONMENTS = (".venv", "venv")
_LARGEST_TAIL = 4000


@dataclass(frozen=True, slots=True)
class PythonEnvironment:
    interpreter: Path
    version: str
    folder: Path | None
    """None where the folder asks for no packages: the interpreter is used as it is."""
    is_users: bool
    key: str
    path_prefix: tuple[Path, ...]
    notes: tuple[str, ...]

    @property
    def variables(self) -> Mapping[str, str]:
        return {"VIRTUAL_ENV": str(self.folder)} if self.folder is not None else {}


async def make_environment(
    request: PrepareRequest, tools: FindTool, steps: StepRunner
) -> PythonEnvironment:
    manifest = find_manifest(request.source)
    notes = _told(manifest, request.source)
    for folder in _environments(request.source):
        if not (folder / "pyvenv.cfg").is_file():
            continue
        from devstack.packs.python_fit import (
            why_not_fitting,
        )  # 20 ms, and most bring no environment

        reason = why_not_fitting(folder, manifest, request.source)
        if reason is None:
            return _users(folder, manifest, request.source)
        notes.append(f"{folder.name} is not used: {reason}")
    python = await tools("python", wanted_python(request.source))
    interpreter = _interpreter(python)
    notes.insert(0, f"python {python.version} ({python.origin})")
    if manifest.kind == "none":
        key = digest_values("python", python.version, str(interpreter))
        in_front = folders_in_front(interpreter, request.environment)
        return PythonEnvironment(
            interpreter, python.version, None, False, key, in_front, tuple(notes)
        )
    key = digest_values(
        "python",
        python.version,
        str(interpreter),
        manifest.kind,
        digest_of_contents(manifest.files),
        *_local_contents(manifest, request.source),
    )
    final = request.deps / f"python-{key}"
    if not (final / "bin" / "python").exists():
        set_aside(final)  # its interpreter was removed from the machine
        await _make(request, manifest, interpreter, final, tools, steps)
    return PythonEnvironment(
        final / "bin" / "python", python.version, final, False, key, (final / "bin",), tuple(notes)
    )


async def make_server_folder(
    lock: Path, interpreter: Path, request: PrepareRequest, tools: FindTool, steps: StepRunner
) -> Path:
    """The folder with the server that the pack brings, shared by all stacks of this user."""
    final = (
        request.cache / "servers" / f"{lock.name.partition('.')[0]}-{digest_of_contents((lock,))}"
    )
    if final.is_dir():
        return final
    uv = await tools("uv", None)
    with temporary_folder(final.parent, "server") as folder:
        made = folder / "libraries"
        await steps.run(
            [
                *_uv(uv, request),
                "pip",
                "install",
                "--python",
                str(interpreter),
                "--target",
                str(made),
                "--no-deps",
                "--require-hashes",
                "-r",
                str(lock),
            ],
            title="install the Python server that devstack brings",
            env=uv_environment(uv, request),
            cwd=folder,
        )
        publish(made, final)
    return final


def uv_environment(uv: Toolchain, request: PrepareRequest) -> dict[str, str]:
    """The user's own uv settings win; an active environment of theirs has no say."""
    ours = trust_the_system(request.environment) | dict(uv.env)
    ours |= {"VIRTUAL_ENV": "", "UV_PROJECT_ENVIRONMENT": ""}
    if "UV_CACHE_DIR" not in request.environment:
        ours["UV_CACHE_DIR"] = str(request.cache / "uv")
    if "UV_PYTHON_DOWNLOADS" not in request.environment:
        ours["UV_PYTHON_DOWNLOADS"] = "never"
    return ours


async def _make(
    request: PrepareRequest,
    manifest: Manifest,
    interpreter: Path,
    final: Path,
    tools: FindTool,
    steps: StepRunner,
) -> None:
    uv_tool = await tools("uv", None)
    uv = _uv(uv_tool, request)
    variables = uv_environment(uv_tool, request)
    with temporary_folder(request.deps, "python") as folder:
        made = folder / "environment"
        await steps.run(
            [*uv, "venv", "--relocatable", "--no-project", "--python", str(interpreter), str(made)],
            title=f"make a Python environment for {request.service}",
            env=variables,
            cwd=folder,
        )
        argv, cwd, extra = install_command(request, manifest, made, folder)
        try:
            await steps.run(
                [*uv, *argv],
                title=f"install packages of {request.service}",
                env=variables | extra,
                cwd=cwd,
            )
        except StepFailed as failed:
            raise _explain(failed, manifest, request) from failed
        publish(made, final)


def _local_contents(manifest: Manifest, source: Path) -> Iterator[str]:
    """Of a folder that is copied all of it; of one that is imported from what it asks for."""
    for package in local_packages(manifest, source):
        if package.is_copied:
            yield digest_files(package.folder, package_files(package.folder, source))
        else:
            yield digest_of_contents(project_files(package.folder))


def _uv(uv: Toolchain, request: PrepareRequest) -> list[str]:
    offline = ["--offline"] if request.offline else []
    return [str(uv.binaries["uv"]), "--no-progress", *offline]


def _environments(source: Path) -> tuple[Path, ...]:
    """Where the user's own may lie: uv makes one for a workspace, in its root."""
    root = uv_workspace(source)
    folders = (source,) if root is None else (source, root)
    return tuple(folder / name for folder in folders for name in _ENVIRONMENTS)


def _told(manifest: Manifest, source: Path) -> list[str]:
    root = uv_workspace(source)
    if root is not None and manifest.kind == "uv":
        return [f"packages as uv.lock of the workspace {root} has them"]
    unread = read_setup(source).unread if manifest.kind == "none" else ""
    if unread:
        said = "install_requires is not written there but computed, so nothing is installed"
        return [f"{unread}: {said}; a requirements.txt would be"]
    return []


def _users(folder: Path, manifest: Manifest, source: Path) -> PythonEnvironment:
    config = (folder / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    version = next(
        (
            line.partition("=")[2].strip()
            for line in config.splitlines()
            if line.startswith("version")
        ),
        "",
    )
    copies = (
        f"{folder.name} has a copy of {package.folder}: after an edit install it there again and restart"
        for package in local_packages(manifest, source)
        if package.is_copied
    )
    owner = "the service" if folder.parent == source else f"the workspace {folder.parent}"
    return PythonEnvironment(
        interpreter=folder / "bin" / "python",
        version=version,
        folder=folder,
        is_users=True,
        key=digest_values("users", str(folder), config),
        path_prefix=(folder / "bin",),
        notes=(
            f"python {version} ({folder.name} of {owner}, used as it is)",
            *copies,
        ),
    )


def _interpreter(python: Toolchain) -> Path:
    for name in ("python3", "python"):
        if name in python.binaries:
            return python.binaries[name]
    return next(iter(python.binaries.values()))


def _explain(failed: StepFailed, manifest: Manifest, request: PrepareRequest) -> CannotPrepare:
    output = failed.tail[-_LARGEST_TAIL:]
    hint = f"the same by hand: uv pip install -r {manifest.files[0]}"
    if manifest.kind == "uv":
        is_old = "needs to be updated" in output
        hint = "run `uv lock` there" if is_old else "the same by hand: uv sync --locked"
    if request.offline:
        hint = "it was not to use the network (--offline); run once without"
    return CannotPrepare(
        f"cannot install packages of {request.service} from {manifest.files[-1].name}: "
        f"{failed.reason}" + (f"\n{output.strip()}" if output else ""),
        hint,
    )
