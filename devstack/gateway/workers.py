"""Which workers an NGINX master has, and which of them only finish what they have."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process of NGINX."""

    pid: int
    started: int
    """Clock ticks after boot, as the kernel counts; with `pid` it names the process for good."""
    is_leaving: bool
    """It calls itself shutting down: it accepts nothing and ends with its last connection."""


def workers_of(master: int) -> tuple[Worker, ...]:
    """The workers of the NGINX with this pid, oldest first; none if there is no such process."""
    found = (_worker(pid) for pid in _children(master))
    return tuple(sorted((w for w in found if w is not None), key=lambda w: (w.started, w.pid)))


def start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks after boot; None if there is none (or a zombie)."""
    fields = _stat(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return int(fields[19])


def _worker(pid: int) -> Worker | None:
    started = start_time(pid)
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    if started is None or not title.startswith(b"nginx: worker process"):
        return None
    return Worker(pid, started, b"shutting down" in title)


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        # No such process, or a kernel built without this file.
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and (fields := _stat(int(entry.name))) and int(fields[1]) == pid
        ]
    except OSError:
        return []


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, which may hold anything: state, parent, …"""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text[text.rfind(")") + 2 :].split()


def end_worker(worker: Worker) -> None:
    """End a worker at once, with the connections it still has."""
    try:
        handle = os.pidfd_open(worker.pid)
    except ProcessLookupError:
        return
    try:
        # The pid may be another process's by now; the handle cannot become one.
        if start_time(worker.pid) == worker.started:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)
