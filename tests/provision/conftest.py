"""A StepRunner that runs programs directly, as tests have no keeper, and small real programs."""

import asyncio
import os
import platform
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devstack.provision import Settings
from devstack.steps import Progress, RunAs, StepFailed, StepResult


@dataclass
class LocalStep:
    process: asyncio.subprocess.Process
    title: str
    argv: Sequence[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    async def wait(self) -> StepResult:
        output, _ = await self.process.communicate()
        assert self.process.returncode is not None
        return StepResult(self.process.returncode, output)

    async def stop(self, signal: int, grace_seconds: float = 10.0) -> StepResult:
        self.process.send_signal(signal)
        try:
            return await asyncio.wait_for(self.wait(), grace_seconds)
        except TimeoutError:
            self.process.kill()
            return await self.wait()


@dataclass
class LocalSteps:
    """Remembers what was run and reported."""

    environment: Mapping[str, str]
    runs: list[tuple[str, ...]] = field(default_factory=list)
    reports: list[Progress] = field(default_factory=list)

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
        step = await self.start(argv, title=title, env=env, cwd=cwd, run_as=run_as)
        try:
            result = await asyncio.wait_for(step.wait(), timeout_seconds)
        except BaseException:
            if step.process.returncode is None:
                os.killpg(step.pid, signal.SIGKILL)
                await step.process.wait()
            raise
        if check and result.code != 0:
            tail = result.output[-2000:].decode("utf-8", "replace")
            raise StepFailed(title, argv, f"exit code {result.code}", tail)
        return result

    async def start(
        self,
        argv: Sequence[str],
        *,
        title: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        run_as: RunAs = "same",
    ) -> LocalStep:
        self.runs.append(tuple(argv))
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env={**self.environment, **(env or {})},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as exc:
            raise StepFailed(title, argv, str(exc)) from exc
        return LocalStep(process, title, argv)

    def report(self, progress: Progress) -> None:
        self.reports.append(progress)


@pytest.fixture
def steps() -> LocalSteps:
    return LocalSteps(dict(os.environ))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An empty cache, an empty PATH, and this user's own index settings."""
    return Settings(tmp_path / "cache", offline=False, path="", environment=dict(os.environ))


def elf_that_says(text: str) -> bytes:
    """A whole Linux program of a few bytes: writes `text` and ends with code 0."""
    message = text.encode()
    code = bytearray(
        b"\xb8\x01\0\0\0\xbf\x01\0\0\0\x48\x8d\x35....\xba....\x0f\x05\xb8\x3c\0\0\0\x31\xff\x0f\x05"
    )
    code[13:17] = struct.pack("<i", len(code) - 17)  # lea rsi, [rip + to the text]
    code[18:22] = struct.pack("<I", len(message))  # mov edx, its length
    base, headers = 0x400000, 64 + 56
    size = headers + len(code) + len(message)
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    elf += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return elf + bytes(code) + message


@pytest.fixture
def make_program(tmp_path: Path) -> Callable[[str, str], Path]:
    """Puts a real program that only tells its version into the folder `bin`."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the small programs of these tests are for Linux on x86_64")

    def make(name: str, answer: str) -> Path:
        path = tmp_path / name if "/" in name else tmp_path / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(elf_that_says(answer + "\n"))
        path.chmod(0o755)
        return path

    return make
