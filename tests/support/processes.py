"""The oracle of every test that starts something: is any process of this run left?

A process belongs to a run by `DEVSTACK_RUN` in its environment, by the run mark among its open
files, by its soft RLIMIT_MSGQUEUE while the run's record can be read, or by descent from the keeper
or its warden. Tests add a tag to command lines, which finds what lost all of these.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from devstack.keeper import processes
from devstack.keeper.marks import RUN_VARIABLE

PATIENCE_SECONDS = 10.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """A living process, with what makes a failed test readable."""

    pid: int
    start: int
    name: str
    command: str

    def __str__(self) -> str:
        return f"{self.name}[{self.pid}] {self.command}"


def of_run(run_id: str, roots: Iterable[int] = ()) -> list[Found]:
    """Living processes of a run; `roots` are its keeper and warden, found with all that descends."""
    table = processes.everything()
    pids = {process.pid for process in processes.tree(table, roots)}
    mark = run_id.encode()
    for process in table.values():
        environment = processes.environment_of(process.pid)
        if environment.get(RUN_VARIABLE.encode()) == mark or _has_mark(process.pid, run_id):
            pids.add(process.pid)
    return [_found(table[pid]) for pid in sorted(pids) if table[pid].is_alive]


def with_tag(tag: str) -> list[Found]:
    """Living processes whose command line contains the tag."""
    found: list[Found] = []
    for process in processes.everything().values():
        if process.is_alive and process.pid != os.getpid():
            command = _command(process.pid)
            if tag in command:
                found.append(_found(process))
    return found


def is_alive(pid: int, start: int | None = None) -> bool:
    """Whether a process lives; with its start time, exactly that one."""
    process = processes.look(pid)
    return process is not None and process.is_alive and start in (None, process.start)


def assert_nothing_left(
    run_id: str, *tags: str, roots: Iterable[int] = (), within: float = 2.0
) -> float:
    """Wait until nothing of the run (or with one of the tags) is left; gives the seconds it took."""
    started = time.monotonic()
    wanted = list(roots)
    while True:
        passed = time.monotonic() - started  # before the look, which takes long on a busy machine
        left = of_run(run_id, wanted) + [found for tag in tags for found in with_tag(tag)]
        if not left:
            return passed
        assert passed < within, "still there: " + ", ".join(map(str, left))
        time.sleep(0.01)


def eventually(check: Callable[[], T], within: float = PATIENCE_SECONDS) -> T:
    """The first true answer of `check`; fails when there is none in time."""
    deadline = time.monotonic() + within
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"did not happen within {within} s"
        time.sleep(0.005)


async def eventually_async(
    check: Callable[[], T | Awaitable[T]], within: float = PATIENCE_SECONDS
) -> T:
    """As `eventually`, for a running event loop; `check` may be a coroutine function."""
    deadline = time.monotonic() + within
    while True:
        answer = check()
        result: T = await answer if isinstance(answer, Awaitable) else answer
        if result:
            return result
        assert time.monotonic() < deadline, f"did not happen within {within} s"
        await asyncio.sleep(0.005)


def open_files(pid: int) -> list[str]:
    """Where the descriptors of a process lead; one that is closed meanwhile hides no other."""
    found: list[str] = []
    with contextlib.suppress(OSError):  # it went away, or is not ours to look at
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(entry))
    return found


def _has_mark(pid: int, run_id: str) -> bool:
    return any(f"run-{run_id}.mark" in path for path in open_files(pid))


def _found(process: processes.Process) -> Found:
    return Found(process.pid, process.start, process.name, _command(process.pid))


def _command(pid: int) -> str:
    raw = processes.read_file(f"/proc/{pid}/cmdline")
    return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()
