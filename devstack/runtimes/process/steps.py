"""Prepare steps as processes of the keeper: the `StepRunner` of one service's one preparation."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devstack.keeper.answers import Exit
from devstack.keeper.errors import KeeperRefused, KeeperUnreachable, SpawnError
from devstack.keeper.requests import LogTarget, SpawnSpec, View
from devstack.runtimes.base import RuntimeUnavailable
from devstack.runtimes.process.link import KeeperLink
from devstack.steps import Progress, RunAs, StepFailed, StepResult

KEPT_OUTPUT = 1 << 16
SLOW_SECONDS = 1.0
"""A step that takes longer is named while it runs."""
TAIL_LINES = 20


@dataclass(slots=True)
class KeeperStep:
    """A helper program that runs while something is prepared; its end may be asked for again."""

    link: KeeperLink
    key: str
    pid: int
    _ended: StepResult | RuntimeUnavailable | None = None
    """Kept here: the link forgets a step as soon as one who waits for it was told."""

    async def stop(self, signal: int, grace_seconds: float = 10.0) -> StepResult:
        if self._ended is None:
            await self.link.stop(self.key, signal, grace_seconds)
        return await self.wait()

    async def wait(self) -> StepResult:
        if self._ended is None:
            try:
                self._ended = _result(await self.link.wait(self.key))
            except KeeperUnreachable as error:
                self._ended = RuntimeUnavailable(str(error))
        if isinstance(self._ended, RuntimeUnavailable):
            raise self._ended
        return self._ended


@dataclass(slots=True)
class _Reported:
    """How often whoever prepares told how far it is."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class KeeperSteps:
    """Steps of one preparation; `environment` is that of whoever ran `up`."""

    link: KeeperLink
    service: str
    revision: str
    environment: Mapping[str, str]
    folder: Path
    log: LogTarget | None
    hosts: str | None
    tell: Callable[[str, Progress], None] = field(repr=False)
    _reported: _Reported = field(default_factory=_Reported, repr=False)

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
        """See `StepRunner.run`. Raises `RuntimeUnavailable` when the keeper dies meanwhile."""
        spec = self._spec(argv, env, cwd, nice, run_as, stdin)
        try:
            async with asyncio.timeout(timeout_seconds):
                with self._told_when_slow(title):
                    result = _result(await self.link.run(spec))
        except TimeoutError as error:
            raise StepFailed(title, argv, f"not done after {timeout_seconds:g} s") from error
        except (SpawnError, KeeperRefused) as error:
            raise StepFailed(title, argv, str(error)) from error
        except KeeperUnreachable as error:
            raise RuntimeUnavailable(str(error)) from error
        if check and result.code != 0:
            raise StepFailed(title, argv, how_it_ended(argv, result), tail_of(result.output))
        return result

    async def start(
        self,
        argv: Sequence[str],
        *,
        title: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        run_as: RunAs = "same",
    ) -> KeeperStep:
        """See `StepRunner.start`."""
        spec = self._spec(argv, env, cwd, 0, run_as, None)
        try:
            process = await self.link.start(spec)
        except (SpawnError, KeeperRefused) as error:
            raise StepFailed(title, argv, str(error)) from error
        except KeeperUnreachable as error:
            raise RuntimeUnavailable(str(error)) from error
        return KeeperStep(self.link, spec.key, process.pid)

    def report(self, progress: Progress) -> None:
        """See `StepRunner.report`."""
        self._reported.count += 1
        self.tell(self.service, progress)

    @contextmanager
    def _told_when_slow(self, title: str) -> Iterator[None]:
        """Name a step on the screen once it takes long, where nobody tells how far it is."""
        reported, is_named = self._reported.count, False

        def name() -> None:
            nonlocal is_named
            if self._reported.count == reported:
                is_named = True
                self.tell(self.service, Progress(title))

        timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, name)
        try:
            yield
        finally:
            timer.cancel()
            if is_named:
                self.tell(self.service, Progress(title, 1, 1))

    def _spec(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        cwd: Path | None,
        nice: int,
        run_as: RunAs,
        stdin: Path | None,
    ) -> SpawnSpec:
        return SpawnSpec(
            key=self.link.step_key("prepare:", f"{self.service}:{self.revision}"),
            group=self.service,
            argv=tuple(argv),
            env={**self.environment, **(env or {})},
            cwd=str(cwd if cwd is not None else self.folder),
            log=self.log,
            view=View(hosts=self.hosts, as_user=run_as),
            nice=nice,
            stdin=str(stdin) if stdin is not None else "/dev/null",
            capture_bytes=KEPT_OUTPUT,
        )


def _result(exit_: Exit) -> StepResult:
    code = exit_.code if exit_.code is not None else -(exit_.signal or 0)
    return StepResult(code, exit_.output)


def how_it_ended(argv: Sequence[str], result: StepResult) -> str:
    """`go build exited with code 1`."""
    name = Path(argv[0]).name
    if result.code < 0:
        return f"{name} was killed by signal {-result.code}"
    return f"{name} exited with code {result.code}"


def tail_of(output: bytes) -> str:
    """The last lines of an output, as text."""
    lines = output.decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:])
