"""A `StepRunner` over asyncio subprocesses, for tests of whatever prepares something.

It honours `run_as` the way the keeper does for root: a user namespace, else uid `nobody`.
"""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from devstack.steps import Progress, RunAs, RunningStep, StepFailed, StepResult

HowUnprivileged = Literal["not needed", "user namespace", "nobody"]
_TAIL = 64 << 10


def how_unprivileged() -> HowUnprivileged:
    """What this machine allows, found out by trying."""
    if os.geteuid() != 0:
        return "not needed"
    pid = os.fork()
    if pid == 0:
        argv = (*_WRAP["user namespace"], "true")
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_RDWR), 2)
            os.execvp(argv[0], argv)
        os._exit(127)
    return "user namespace" if os.waitpid(pid, 0)[1] == 0 else "nobody"


_WRAP: Mapping[HowUnprivileged, tuple[str, ...]] = {
    "not needed": (),
    "user namespace": ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--"),
    "nobody": ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"),
}


def unprivileged_argv(
    argv: Sequence[str], run_as: RunAs, unprivileged: HowUnprivileged
) -> tuple[str, ...]:
    """The command with what makes it run as the wanted user."""
    return (*(_WRAP[unprivileged] if run_as == "unprivileged" else ()), *argv)


@dataclass
class SubprocessSteps:
    """Runs steps for real; remembers what it ran and what was reported."""

    unprivileged: HowUnprivileged = "not needed"
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    ran: list[tuple[str, ...]] = field(default_factory=list)
    reported: list[Progress] = field(default_factory=list)

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
        step = await self._start(argv, title, env, cwd, run_as, stdin)
        try:
            async with asyncio.timeout(timeout_seconds):
                result = await step.wait()
        except TimeoutError:
            await step.stop(signal.SIGKILL)
            raise StepFailed(title, argv, f"took longer than {timeout_seconds} s") from None
        except asyncio.CancelledError:
            await step.stop(signal.SIGKILL)
            raise
        if check and result.code != 0:
            tail = result.output.decode(errors="replace")[-2000:]
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
    ) -> RunningStep:
        return await self._start(argv, title, env, cwd, run_as, None)

    def report(self, progress: Progress) -> None:
        self.reported.append(progress)

    async def _start(
        self,
        argv: Sequence[str],
        title: str,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        run_as: RunAs,
        stdin: Path | None,
    ) -> "SubprocessStep":
        self.ran.append(tuple(argv))
        output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the step
        source = stdin.open("rb") if stdin is not None else None
        try:
            process = await asyncio.create_subprocess_exec(
                *unprivileged_argv(argv, run_as, self.unprivileged),
                stdin=source if source is not None else asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env={**self.environment, **(env or {})},
                start_new_session=True,
            )
        except BaseException as error:  # cancelled too, while the program runs already
            output.close()
            if isinstance(error, OSError):
                raise StepFailed(title, argv, error.strerror or str(error)) from error
            raise
        finally:
            if source is not None:
                source.close()
        return SubprocessStep(process, output)


class SubprocessStep:
    """A running step; its output goes to a file, so that no reader is needed."""

    def __init__(self, process: asyncio.subprocess.Process, output: IO[bytes]) -> None:
        self._process = process
        self._output = output
        self._result: StepResult | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def stop(self, signal: int, grace_seconds: float = 10.0) -> StepResult:
        self._signal(signal)
        try:
            async with asyncio.timeout(grace_seconds):
                return await self.wait()
        except TimeoutError:
            self._signal(9)
            return await self.wait()

    async def wait(self) -> StepResult:
        code = await self._process.wait()
        if self._result is None:
            size = self._output.seek(0, os.SEEK_END)
            self._output.seek(max(0, size - _TAIL))
            self._result = StepResult(code, self._output.read())
            self._output.close()
        return self._result

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
