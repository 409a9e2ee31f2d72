"""A server for the time of a prepare step: started on a private socket, asked, and stopped cleanly."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

from devstack.engines.base import CannotPrepare, NotReady
from devstack.steps import RunAs, RunningStep, StepResult, StepRunner

LONGEST_SOCKET_PATH = 107

_START_SECONDS = 60.0
_ASK_EVERY_SECONDS = 0.02
_STOP_SECONDS = 60.0

ASK_AGAIN_SECONDS = 10.0
"""A server that has not ended by then is sent its signal once more, see `_stop`."""


@contextlib.contextmanager
def short_folder(parent: Path | None = None) -> Iterator[Path]:
    """A private folder whose path leaves room for a socket name (107 bytes in all)."""
    path = tempfile.mkdtemp(prefix="devstack-", dir=parent)
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.asynccontextmanager
async def temporary_server(
    steps: StepRunner,
    argv: Sequence[str],
    *,
    title: str,
    ask: Callable[[], None],
    stop_signal: signal.Signals,
    env: Mapping[str, str],
    cwd: Path,
    run_as: RunAs = "same",
) -> AsyncIterator[None]:
    """Run a server while the body runs; it begins when `ask` no longer raises `NotReady`.

    A server that does not end cleanly after the body raises `CannotPrepare`: its data is not whole.
    """
    server = await steps.start(argv, title=title, env=env, cwd=cwd, run_as=run_as)
    ended = asyncio.ensure_future(server.wait())
    how = signal.SIGKILL  # what failed or is cancelled leaves no data that is used
    try:
        await _until_ready(ended, ask, title)
        yield
        how = stop_signal
    finally:
        result = await _stop(server, how)
        ended.cancel()
        await asyncio.wait({ended})
    if result.code != 0:
        raise CannotPrepare(
            f"cannot {title}: the server did not end cleanly (code {result.code})\n{_tail(result)}"
        )


async def _stop(server: RunningStep, stop_signal: signal.Signals) -> StepResult:
    """Ask it to end, and again where that had no effect.

    The stand-in for MongoDB is a Python program whose main thread begins to wait without limit
    right after it listens. Python runs a handler in the main thread "between" two instructions: a
    signal that comes just before the wait is noted and waits for the next one (Python's `signal`,
    "Execution of Python signal handlers").
    """
    asked = asyncio.ensure_future(server.stop(stop_signal, _STOP_SECONDS))
    try:
        done, _ = await asyncio.wait({asked}, timeout=ASK_AGAIN_SECONDS)
        if not done:
            await server.stop(stop_signal, _STOP_SECONDS)
        return await asked
    finally:
        asked.cancel()
        await asyncio.wait({asked})


async def _until_ready(
    ended: "asyncio.Future[StepResult]", ask: Callable[[], None], title: str
) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _START_SECONDS
    while True:
        try:
            await asyncio.to_thread(ask)
        except NotReady as not_ready:
            if loop.time() > deadline:
                raise CannotPrepare(
                    f"cannot {title}: no answer in {_START_SECONDS:.0f} s: {not_ready.reason}"
                ) from not_ready
        else:
            return
        done, _ = await asyncio.wait({ended}, timeout=_ASK_EVERY_SECONDS)
        if done:
            result = ended.result()
            raise CannotPrepare(
                f"cannot {title}: the server ended with code {result.code}\n{_tail(result)}"
            )


def _tail(result: StepResult) -> str:
    lines = result.output.decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-8:])
