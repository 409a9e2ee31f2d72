"""How the server of a preparation is asked to end."""

import asyncio
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devstack.engines import temporary
from devstack.engines.temporary import temporary_server
from devstack.steps import RunningStep, StepResult
from tests.support.steps import SubprocessSteps


@dataclass
class Missing:
    """A server whose first signals have no effect, which no real one can be made to do at will."""

    misses: int
    asked: list[int] = field(default_factory=list)
    pid: int = 0
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop(self, signal: int, grace_seconds: float = 10.0) -> StepResult:
        del grace_seconds
        self.asked.append(signal)
        if len(self.asked) > self.misses:
            self._ended.set()
        return await self.wait()

    async def wait(self) -> StepResult:
        await self._ended.wait()
        return StepResult(0, b"")


@dataclass
class Steps(SubprocessSteps):
    """Starts just that server."""

    server: Missing = field(default_factory=lambda: Missing(0))

    async def start(self, *_: object, **__: object) -> RunningStep:
        return self.server


@pytest.mark.parametrize("misses", [0, 1])
def test_a_server_that_missed_its_signal_is_asked_again(
    misses: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "ASK_AGAIN_SECONDS", 0.05 if misses else 60.0)
    steps = Steps(server=Missing(misses))

    async def scenario() -> None:
        async with temporary_server(
            steps,
            ["server"],
            title="set up db",
            ask=lambda: None,
            stop_signal=signal.SIGTERM,
            env={},
            cwd=tmp_path,
        ):
            assert steps.server.asked == []

    asyncio.run(scenario())
    assert steps.server.asked == [signal.SIGTERM] * (misses + 1)
