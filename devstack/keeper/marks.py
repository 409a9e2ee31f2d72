"""The three marks by which a process is known to belong to a run, and the record that remembers them.

1. `DEVSTACK_RUN` in its environment (lost by NGINX, PostgreSQL, `env -i`);
2. the run mark: a file of the run, never locked, as an inherited open descriptor (lost by daemons
   that close all descriptors);
3. a soft RLIMIT_MSGQUEUE of its own out of the run's block of 4,096 values (survives all of these,
   and tells whose daemon a process is).

The record is written before the first spawn and removed when a run ends well; a record without a
living keeper is a dead run, for `sweep`.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import zlib

from devstack.keeper.places import remove_file, write_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.keeper.kill import Killed

BLOCK = 4096
HIGHEST_LIMIT = 819_200
"""The kernel's usual limit: values just below it change nothing for programs that use queues."""
RUN_VARIABLE = "DEVSTACK_RUN"
SPAWN_VARIABLE = "DEVSTACK_SPAWN"
LOCK = "blocks.lock"


def boot_id() -> str:
    """Changes with every boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


class Run:
    """What is known of one life of a keeper; on disk as `run-<id>.json` beside `run-<id>.mark`."""

    __slots__ = (
        "boot",
        "ended",
        "first_limit",
        "folder",
        "keeper",
        "killed",
        "left",
        "run_id",
        "started_at",
        "uid",
        "warden",
    )

    def __init__(
        self,
        folder: str,
        run_id: str,
        *,
        uid: int,
        boot: str,
        started_at: float,
        keeper: tuple[int, int],
        warden: tuple[int, int],
        first_limit: int | None = None,
        ended: str | None = None,
        killed: tuple[str, ...] = (),
        left: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.folder = folder
        self.run_id = run_id
        self.uid = uid
        self.boot = boot
        self.started_at = started_at
        self.keeper = keeper
        self.warden = warden
        self.first_limit = first_limit
        """The lowest value of the run's block; None where the system leaves no room for one."""
        self.ended = ended
        """Why the run ended, when it did not end as asked."""
        self.killed = killed
        """What was ended then."""
        self.left = left
        """Pid and start of what could not be ended: its marks may not be ours to read."""

    @property
    def record(self) -> str:
        return os.path.join(self.folder, f"run-{self.run_id}.json")

    @property
    def mark(self) -> str:
        return os.path.join(self.folder, f"run-{self.run_id}.mark")

    def has_limit(self, value: int | None) -> bool:
        """Whether a soft limit lies in the run's block."""
        return (
            value is not None
            and self.first_limit is not None
            and self.first_limit <= value < self.first_limit + BLOCK
        )

    def limit_of(self, serial: int) -> int | None:
        """The value that a spawn with this serial number carries."""
        return None if self.first_limit is None else self.first_limit + serial % BLOCK

    def set_what_became(self, ended: Killed) -> None:
        """Of what ran when the run ended."""
        self.killed = tuple(map(str, ended.killed))
        self.left = tuple(process.identity for process in ended.left)

    def write(self) -> None:
        """Record the run: whole or not at all."""
        fields = {
            name: getattr(self, name) for name in self.__slots__ if name not in ("folder", "run_id")
        }
        write_whole(self.record, json.dumps(fields))

    def remove(self) -> None:
        """Forget the run: nothing of it is left."""
        remove_file(self.record)
        remove_file(self.mark)


def read_run(folder: str, run_id: str) -> Run | None:
    """The record of a run, or None when there is none that can be read."""
    try:
        with open(os.path.join(folder, f"run-{run_id}.json"), encoding="utf-8") as file:
            fields = json.load(file)
        return Run(
            folder,
            run_id,
            uid=int(fields["uid"]),
            boot=str(fields["boot"]),
            started_at=float(fields["started_at"]),
            keeper=(int(fields["keeper"][0]), int(fields["keeper"][1])),
            warden=(int(fields["warden"][0]), int(fields["warden"][1])),
            first_limit=None if fields["first_limit"] is None else int(fields["first_limit"]),
            ended=None if fields["ended"] is None else str(fields["ended"]),
            killed=tuple(map(str, fields["killed"])),
            left=tuple((int(pid), int(start)) for pid, start in fields.get("left", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def runs_in(folder: str) -> list[Run]:
    """All recorded runs of one stack, oldest first."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = [
        read_run(folder, name[4:-5])
        for name in names
        if name.startswith("run-") and name.endswith(".json")
    ]
    return sorted((run for run in found if run is not None), key=lambda run: run.started_at)


def record_run(run: Run) -> None:
    """Take a block of limit values that no other run of this user has, and record the run.

    Blocks are tried from a place that the folder's path decides, so that users of several runtime
    folders (which do not see each other's records) seldom meet.
    """
    base = os.path.dirname(run.folder)
    lock = os.open(os.path.join(base, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        blocks = highest_limit() // BLOCK
        taken = {other.first_limit for other in _all_runs(base) if other.boot == run.boot}
        preferred = zlib.crc32(os.fsencode(run.folder))
        for step in range(blocks):
            first = highest_limit() - ((preferred + step) % blocks + 1) * BLOCK
            if first not in taken:
                run.first_limit = first
                break
        run.write()
    finally:
        os.close(lock)


def open_mark(run: Run) -> int:
    """The run mark's descriptor, at a number that programs do not expect to be free or taken."""
    descriptor = os.open(run.mark, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 90)
    finally:
        os.close(descriptor)


def highest_limit() -> int:
    """The end of the range from which blocks are taken."""
    hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)[1]
    return HIGHEST_LIMIT if hard == resource.RLIM_INFINITY else min(hard, HIGHEST_LIMIT)


def _all_runs(base: str) -> list[Run]:
    runs: list[Run] = []
    with os.scandir(base) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                runs.extend(runs_in(entry.path))
    return runs
