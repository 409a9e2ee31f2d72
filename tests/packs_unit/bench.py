"""What the tests of the packs share: real toolchains, requests, and a look at a folder."""

import shutil
import subprocess
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from devstack.packs.base import Prepared, PrepareRequest, Toolchain
from tests.support.steps import SubprocessSteps
from tests.support.tools import tool_or_skip

Snapshot = Mapping[str, tuple[int, int, int]]


class MakeTree(Protocol):
    def __call__(self, files: Mapping[str, str]) -> Path: ...


class TakeSnapshot(Protocol):
    def __call__(self, folder: Path) -> Snapshot: ...


class Run(Protocol):
    def __call__(self, preparing: Coroutine[Any, Any, Prepared], /) -> Prepared: ...


@dataclass(frozen=True, slots=True)
class FoundTool:
    version: str
    origin: str
    binaries: Mapping[str, Path]
    env: Mapping[str, str] = field(default_factory=dict)


_VERSION_OF: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "go": (("go",), ("version",)),
    "node": (("node", "npm"), ("--version",)),
    "uv": (("uv",), ("--version",)),
    "python": (("python3",), ("--version",)),
}


@dataclass(slots=True)
class PathTools:
    """Toolchains as they lie on PATH, else as devstack brings them; skips where neither can be."""

    asked: list[tuple[str, str | None]] = field(default_factory=list)
    known: dict[str, Toolchain] = field(default_factory=dict)

    async def __call__(self, name: str, wanted: str | None) -> Toolchain:
        self.asked.append((name, wanted))
        if name not in self.known:
            self.known[name] = self._look(name) or await tool_or_skip(name)
        return self.known[name]

    def _look(self, name: str) -> FoundTool | None:
        programs, arguments = _VERSION_OF[name]
        found = {program: shutil.which(program) for program in programs}
        if not all(found.values()):
            return None
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
    steps: SubprocessSteps
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
