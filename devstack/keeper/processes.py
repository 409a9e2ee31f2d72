"""What the system says about processes: /proc read into small objects, and signals without mix-ups.

A pid alone may mean somebody else a moment later; pid and start time together never do.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    Identity = tuple[int, int]
    """Pid and start time in clock ticks since boot."""


HALF_A_PAGE = 2048
"""/proc answers page by page, and ends one before what does not fit: from here on there may be more."""


class Process:
    """One line of /proc/PID/stat."""

    __slots__ = ("name", "parent", "pid", "session", "start", "state")

    def __init__(self, line: bytes) -> None:
        opened, closed = line.index(b"("), line.rindex(b")")
        fields = line[closed + 2 :].split()
        self.pid = int(line[:opened])
        self.name = line[opened + 1 : closed].decode("utf-8", "surrogateescape")
        self.state = fields[0]
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.start = int(fields[19])

    @property
    def identity(self) -> Identity:
        return self.pid, self.start

    @property
    def is_alive(self) -> bool:
        return self.state not in (b"Z", b"X", b"x")

    def __str__(self) -> str:
        return f"{self.name}[{self.pid}]"


def read_file(path: str, most: int = 1 << 20) -> bytes:
    """The content of a file in /proc; empty when the process is gone or not ours to read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        content = os.read(descriptor, 65536)
        if len(content) >= HALF_A_PAGE:
            while len(content) < most:
                more = os.read(descriptor, 65536)
                if not more:
                    break
                content += more
        return content
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def look(pid: int) -> Process | None:
    """The process with this pid, or None."""
    line = read_file(f"/proc/{pid}/stat")
    return Process(line) if line else None


def start_of(pid: int) -> int:
    """The start time of a process, 0 when there is none."""
    found = look(pid)
    return found.start if found else 0


def is_running(identity: Identity) -> bool:
    """Whether exactly this process still lives."""
    found = look(identity[0])
    return found is not None and found.start == identity[1] and found.is_alive


def everything() -> dict[int, Process]:
    """All processes there are, by pid."""
    table: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = look(int(name))
            if found is not None:
                table[found.pid] = found
    return table


def tree(
    table: dict[int, Process], roots: Iterable[int], spared: Collection[int] = ()
) -> list[Process]:
    """The roots and all that descends from them, without the spared ones and their descendants."""
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: dict[int, Process] = {}
    waiting = [pid for pid in roots if pid in table]
    while waiting:
        pid = waiting.pop()
        if pid in found or pid in spared:
            continue
        found[pid] = table[pid]
        waiting.extend(children.get(pid, ()))
    return list(found.values())


def pids_of(table: dict[int, Process], identities: Iterable[Identity]) -> set[int]:
    """The pids of exactly these processes, where they still are."""
    return {pid for pid, start in identities if pid in table and table[pid].start == start}


def children_of(pid: int) -> list[int]:
    """The children of a process as the kernel lists them; may miss one that is made meanwhile."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        found.extend(map(int, read_file(f"/proc/{pid}/task/{task}/children").split()))
    return found


def environment_of(pid: int) -> dict[bytes, bytes]:
    """The environment a process was started with; empty when it may not be read or was overwritten."""
    found: dict[bytes, bytes] = {}
    for item in read_file(f"/proc/{pid}/environ").split(b"\0"):
        name, separator, value = item.partition(b"=")
        if separator:
            found[name] = value
    return found


def message_queue_limit_of(pid: int) -> int | None:
    """The soft RLIMIT_MSGQUEUE of a process, which is one of the marks; None for no limit."""
    content = read_file(f"/proc/{pid}/limits")
    at = content.find(b"Max msgqueue size")
    if at < 0:
        return None
    soft = content[at + 17 : at + 60].split()[0]
    return int(soft) if soft.isdigit() else None


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    return _has_signal(pid, b"SigCgt:", number)


def ignores(pid: int, number: int) -> bool:
    """Whether a signal would be lost on a process."""
    return _has_signal(pid, b"SigIgn:", number)


def _has_signal(pid: int, field: bytes, number: int) -> bool:
    """Whether a mask of /proc/PID/status has a signal; its lowest bit is signal 1 (proc(5))."""
    for line in read_file(f"/proc/{pid}/status").splitlines():
        if line.startswith(field):
            return bool(int(line[len(field) :], 16) >> number - 1 & 1)
    return False


def send(process: Process, number: int) -> bool:
    """Signal exactly this process; False when it is gone. Never reaches a reused pid."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        now = look(process.pid)
        if now is None or now.start != process.start:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
