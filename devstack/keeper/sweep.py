"""What dead runs left: found by their marks, told, and ended when a command may do so.

A run is dead when neither its keeper nor its warden lives in this boot. A process is its own by any
of three marks (see `marks`), by limit alone only if all of this holds: its uid is ours, its value
lies in the run's block, it started after the run and in this boot, and no living keeper is among
its ancestors. What the run itself could not end is known from its record.

Imported by commands: standard library only, and nothing that is slow to import.
"""

from __future__ import annotations

import os
import time

from devstack.keeper import processes
from devstack.keeper.kill import kill_until_none
from devstack.keeper.marks import RUN_VARIABLE, Run, boot_id, runs_in
from devstack.keeper.starting import is_keeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from devstack.keeper.places import Places
    from devstack.keeper.processes import Process

KILL_SECONDS = 5.0
END_SECONDS = 2.0


class DeadRun:
    """One dead run and what was found of it."""

    __slots__ = ("ended", "found", "killed", "run_id", "stack_id", "started_at")

    def __init__(self, run: Run, found: tuple[str, ...], killed: tuple[str, ...]) -> None:
        self.stack_id = os.path.basename(run.folder)
        self.run_id = run.run_id
        self.started_at = run.started_at
        self.ended = run.ended or "its keeper and its warden were killed"
        """Why the run ended."""
        self.found = found
        """`name[pid]` of what is left and was not killed by this sweep."""
        self.killed = killed
        """What was killed when it ended, and by this sweep."""

    def __str__(self) -> str:
        parts = [f"the last run ended because {self.ended}"]
        if self.killed:
            parts.append(f"killed: {_some(self.killed)}")
        if self.found:
            parts.append(f"still there: {_some(self.found)}")
        return "; ".join(parts)


def sweep(places: Iterable[Places], *, kill: bool) -> list[DeadRun]:
    """Look for what dead runs of these stacks left; kill it and forget them, or only report.

    Costs a look into each folder when there is no dead run.
    """
    reports: list[DeadRun] = []
    boot = boot_id()
    for place in places:
        for run in runs_in(place.folder):
            if run.boot != boot:
                if kill:
                    run.remove()
                continue
            if kill and run.ended is not None:
                _await_end(run)
            if _is_ending(run):
                continue
            reports.append(_sweep_run(run, kill=kill))
    return reports


def _is_ending(run: Run) -> bool:
    return processes.is_running(run.keeper) or processes.is_running(run.warden)


def _await_end(run: Run) -> None:
    """Its record is written as the last thing: keeper and warden are about to go."""
    deadline = time.monotonic() + END_SECONDS
    while _is_ending(run) and time.monotonic() < deadline:
        time.sleep(0.01)  # not our children: nothing to wait for


def find_processes(run: Run) -> list[Process]:
    """Every living process of a run, with all that descends from them."""
    table = processes.everything()
    spared = _trees_of_living_keepers(table, run)
    found = [
        process.pid
        for process in table.values()
        if process.is_alive and process.pid not in spared and _belongs(process, run)
    ]
    return [process for process in processes.tree(table, found, spared) if process.is_alive]


def _sweep_run(run: Run, *, kill: bool) -> DeadRun:
    if not kill:
        return DeadRun(run, tuple(map(str, find_processes(run))), run.killed)
    ended = kill_until_none(lambda: find_processes(run), _nothing_to_reap, KILL_SECONDS)
    if not ended.left:
        run.remove()
    left = tuple(map(str, ended.left))
    return DeadRun(run, left, run.killed + tuple(map(str, ended.killed)))


def _belongs(process: Process, run: Run) -> bool:
    if process.identity in run.left:
        return True
    pid = process.pid
    mark = processes.environment_of(pid).get(RUN_VARIABLE.encode())
    if mark is not None:
        return mark == run.run_id.encode()
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return False
    return _has_open(pid, run.mark) or (
        uid == os.geteuid() == run.uid
        and process.start >= run.keeper[1]
        and run.has_limit(processes.message_queue_limit_of(pid))
    )


def _has_open(pid: int, path: str) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if target in (path, f"{path} (deleted)"):
            return True
    return False


def _trees_of_living_keepers(table: dict[int, Process], run: Run) -> set[int]:
    """Living keepers own all that descends from them, whatever it looks like; we are not ours either."""
    roots = [
        pid
        for pid in table
        if is_keeper(processes.read_file(f"/proc/{pid}/cmdline").split(b"\0"))
        and pid not in (run.keeper[0], run.warden[0])
    ]
    spared = {process.pid for process in processes.tree(table, roots)}
    pid = os.getpid()
    while pid in table:
        spared.add(pid)
        pid = table[pid].parent
    return spared


def _nothing_to_reap() -> None:
    """They are not our children."""


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
