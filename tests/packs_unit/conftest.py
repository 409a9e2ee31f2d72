"""What the tests of the packs share: real steps, the toolchains on PATH, and a look at a folder."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from devstack.packs.base import PrepareRequest
from devstack.steps import Progress, RunAs, RunningStep, StepFailed, StepResult

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FoundTool:
    version: str
    origin: str
    binaries: Mapping[str, Path]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class RealSteps:
    """Runs each step as a child; remembers what was run."""

    environment: Mapping[str, str]
    ran: list[tuple[str, ...]] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)

    async def run(
        self,
        argv: Sequence[str],
        *,
        title: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        nice: int = 0,
        run_as: RunAs = "same",
        check: bool = True,
        timeout_seconds: float | None = None,
        stdin: Path | None = None,
    ) -> StepResult:
        self.ran.append(tuple(argv))
        self.titles.append(title)
        finished = await asyncio.to_thread(
            subprocess.run,
            list(argv),
            env={**self.environment, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=150,
        )
        if check and finished.returncode != 0:
            tail = finished.stdout.decode(errors="replace")
            raise StepFailed(title, argv, f"exit code {finished.returncode}", tail)
        return StepResult(finished.returncode, finished.stdout)

    async def start(
        self,
        argv: Sequence[str],
        *,
        title: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        run_as: RunAs = "same",
    ) -> RunningStep:
        raise AssertionError("no pack needs a helper server")

    def report(self, progress: Progress) -> None:
        """Nobody looks."""


_VERSION_OF: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "go": (("go",), ("version",)),
    "node": (("node", "npm"), ("--version",)),
    "uv": (("uv",), ("--version",)),
    "python": (("python3",), ("--version",)),
}


@dataclass(slots=True)
class PathTools:
    """Toolchains as they lie on PATH; a test is skipped where one is missing."""

    asked: list[tuple[str, str | None]] = field(default_factory=list)
    known: dict[str, FoundTool] = field(default_factory=dict)

    async def __call__(self, name: str, wanted: str | None) -> FoundTool:
        self.asked.append((name, wanted))
        if name not in self.known:
            self.known[name] = self._look(name)
        return self.known[name]

    def _look(self, name: str) -> FoundTool:
        programs, arguments = _VERSION_OF[name]
        found = {program: shutil.which(program) for program in programs}
        if not all(found.values()):
            pytest.skip(f"{name} is not on PATH")
        binaries = {program: Path(path) for program, path in found.items() if path}
        if name == "python":
            said = subprocess.run(
                [str(binaries["python3"]), "-I", "-c", "import sys; print(sys.executable)"],
                capture_output=True,
                text=True,
                check=True,
            )
            binaries["python3"] = Path(said.stdout.strip())
        version = subprocess.run(
            [str(binaries[programs[0]]), *arguments], capture_output=True, text=True, check=True
        ).stdout
        number = next(
            word
            for word in version.replace("go1", "1").split()
            if word[:1] in "v0123456789" and any(c.isdigit() for c in word)
        )
        return FoundTool(number.lstrip("v"), "PATH", binaries)


@dataclass(frozen=True, slots=True)
class Bench:
    """A folder for one test: requests, steps and tools that are real."""

    folder: Path
    cache: Path
    steps: RealSteps
    tools: PathTools

    def request(self, source: Path, **changes: Any) -> PrepareRequest:
        values: dict[str, Any] = {
            "service": source.name,
            "source": source,
            "user_command": None,
            "main": None,
            "deps": self.folder / "deps",
            "build": self.folder / "build",
            "cache": self.cache,
            "revision": "r1",
            "environment": self.steps.environment,
        }
        return PrepareRequest(**{**values, **changes})


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One per-user cache for the whole run, as a user has one: the second Go build is warm."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def bench(tmp_path: Path, shared_cache: Path) -> Bench:
    environment = dict(os.environ)
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "NODE_OPTIONS", "NODE_PATH"):
        environment.pop(name, None)
    # The compiled standard library takes a minute of processor time: the machine's own cache.
    environment.setdefault("GOCACHE", str(Path.home() / ".cache" / "go-build"))
    return Bench(tmp_path / "checkout", shared_cache, RealSteps(environment), PathTools())


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, Result]], Result]:
    return asyncio.run


Snapshot = Mapping[str, tuple[int, int, int]]


@pytest.fixture
def snapshot() -> Callable[[Path], Snapshot]:
    """Every entry below a folder with its size, change times and inode."""

    def take(folder: Path) -> Snapshot:
        taken: dict[str, tuple[int, int, int]] = {}
        for path in [folder, *sorted(folder.rglob("*"))]:
            info = path.lstat()
            taken[str(path)] = (info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        return taken

    return take


@pytest.fixture
def strangers() -> Path:
    return Path(__file__).parent.parent / "packs"


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """A source folder from names and texts."""
    made: list[Path] = []

    def make(files: Mapping[str, str]) -> Path:
        folder = tmp_path / f"source{len(made)}" / "service"
        made.append(folder)
        folder.mkdir(parents=True)
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return folder

    return make


AsyncFind = Callable[[str, str | None], Awaitable[FoundTool]]


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    """Every test that starts processes ends with none of them."""
    before = _children()
    yield
    left = _children() - before
    assert not left, f"processes left behind: {left}"


def _children() -> set[int]:
    task = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return {int(pid) for pid in task.read_text().split()} if task.exists() else set()
