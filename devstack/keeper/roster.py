"""Which processes were asked for, and whose every other one is: an orphan's marks tell.

Full looks (`everything`) miss nothing and are for ending; the kernel's lists of children are cheap.
"""

from __future__ import annotations

import errno
import os
import time

from devstack.keeper import processes
from devstack.keeper.marks import BLOCK, RUN_VARIABLE, SPAWN_VARIABLE
from devstack.keeper.protocol import STEP_PREFIXES
from devstack.keeper.spawn import Marks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from devstack.keeper.loop import Timer
    from devstack.keeper.marks import Run
    from devstack.keeper.output import Output
    from devstack.keeper.processes import Identity, Process
    from devstack.keeper.spawn import Failure

    Message = dict[str, object]


class Child:
    """One process that was asked for, from its fork until nothing of it is left."""

    __slots__ = (
        "adopted",
        "asked",
        "exit",
        "group",
        "is_told",
        "key",
        "left",
        "limit",
        "meta",
        "on_started",
        "outputs",
        "pid",
        "report",
        "serial",
        "start",
        "started_at",
        "stop_signal",
        "stop_timer",
        "stopping",
        "tidying",
    )

    def __init__(self, key: str, group: str, pid: int, serial: int, limit: int | None) -> None:
        self.key = key
        self.group = group
        self.pid = pid
        self.start = processes.start_of(pid)
        self.started_at = time.time()
        self.meta = ""
        """The controller's own note on the process, given back by `list` and with its exit."""
        self.serial = serial
        self.limit = limit
        self.outputs: list[Output] = []
        self.report = -1
        """Tells whether exec went well; -1 once it told."""
        self.on_started: Callable[[Failure | None], bool] | None = None
        self.adopted = -1
        """Pidfd of a process that one of our children started."""
        self.exit: Message | None = None
        """How its main process ended."""
        self.is_told = False
        """Whether the exit was: that of one that is stopped waits for all that belongs to it."""
        self.stopping = False
        self.stop_signal = 0
        self.asked: set[Identity] = set()
        """What was sent the signal beside the main process."""
        self.stop_timer: Timer | None = None
        self.tidying = False
        self.left: dict[Identity, Process] = {}

    @property
    def is_step(self) -> bool:
        return self.key.startswith(STEP_PREFIXES)

    def to_wire(self) -> Message:
        return {
            "key": self.key,
            "group": self.group,
            "pid": self.pid,
            "start_time": self.start,
            "started_at": self.started_at,
            "stopping": self.stopping,
            "meta": self.meta,
        }


class Roster:
    """All children of the run: `by_pid` those that run, `by_key` also those that left something."""

    def __init__(self, run: Run, mark: int) -> None:
        self._run = run
        self._mark = mark
        self._serial = 0
        self._by_serial: dict[int, Child] = {}
        self._by_limit: dict[int, Child] = {}
        self._owners: dict[Identity, Child | None] = {}
        self.by_pid: dict[int, Child] = {}
        self.by_key: dict[str, Child] = {}
        self.spared: Identity | None = None
        """The controller: it may be a child of the keeper, and is no part of the stack."""

    def next_marks(self) -> Marks:
        """Marks that nobody carries; raises OSError when all are in use."""
        for _ in range(BLOCK):
            self._serial += 1
            limit = self._run.limit_of(self._serial)
            if limit is None or limit not in self._by_limit:
                return Marks(self._run.run_id, self._serial, self._mark, limit)
        raise OSError(errno.EAGAIN, "all marks of the run are in use")

    def add(self, child: Child) -> None:
        """One that carries marks of its own."""
        self.add_adopted(child)
        self._by_serial[child.serial] = child
        if child.limit is not None:
            self._by_limit[child.limit] = child

    def add_adopted(self, child: Child) -> None:
        """One that carries the marks of whose child it was."""
        self.by_pid[child.pid] = self.by_key[child.key] = child

    def forget(self, child: Child) -> None:
        """Nothing of it is left."""
        self.by_key.pop(child.key, None)
        if child.adopted < 0:
            # a process adopted from it goes on with its marks: what that one leaves is found by them
            heir = next((c for c in self.by_pid.values() if c.serial == child.serial), None)
            for table, mark in ((self._by_serial, child.serial), (self._by_limit, child.limit)):
                if mark is not None and table.get(mark) is child:
                    if heir is None:
                        del table[mark]
                    else:
                        table[mark] = heir
        elif self._by_serial.get(child.serial) is child:
            del self._by_serial[child.serial]
            if child.limit is not None:
                self._by_limit.pop(child.limit, None)
        if not self.by_key:
            self._owners.clear()

    # -- whose is it

    def descendants(self, *, without: int = 0) -> list[Process]:
        """Everything of the run, from a full look; `without` one pid and what descends from it."""
        table = processes.everything()
        me = os.getpid()
        found = processes.tree(table, [me], self._spared_in(table) | {without})
        return [process for process in found if process.pid != me]

    def belongings(self, child: Child) -> list[Process]:
        """Everything that belongs to a process, from a full look: nothing is missed."""
        table = processes.everything()
        roots = [child.pid] if child.exit is None else []
        me = os.getpid()
        for process in table.values():
            is_orphan = process.parent == me and process.pid not in self.by_pid
            if is_orphan and self.owner(process) is child:
                roots.append(process.pid)
        others = {pid for pid, other in self.by_pid.items() if other is not child}
        return processes.tree(table, roots, others | self._spared_in(table))

    def pids_of(self, child: Child) -> list[int]:
        """As `belongings`, from the kernel's lists: cheap enough to be asked 50 times a second."""
        waiting = [child.pid] if child.exit is None else []
        waiting += [orphan.pid for orphan in self.orphans_of(child)]
        found: set[int] = set()
        while waiting:
            pid = waiting.pop()
            owner = self.by_pid.get(pid)
            if pid in found or (owner is not None and owner is not child):
                continue
            found.add(pid)
            waiting.extend(processes.children_of(pid))
        return sorted(found)

    def orphans_of(self, child: Child) -> list[Process]:
        """Living children of the keeper that nobody asked for and that carry the marks of `child`."""
        found: list[Process] = []
        for pid in processes.children_of(os.getpid()):
            if pid in self.by_pid:
                continue
            process = processes.look(pid)
            if process is not None and process.is_alive and self.owner(process) is child:
                found.append(process)
        return found

    def has_any(self) -> bool:
        """Whether anything of the run is left: orphans are our children too."""
        spared = self.spared[0] if self.spared else 0
        return any(pid != spared for pid in processes.children_of(os.getpid()))

    def owner(self, process: Process) -> Child | None:
        """The child whose marks a process carries; looked up once for each process."""
        identity = process.identity
        if identity == self.spared:
            return None
        if identity not in self._owners:
            if len(self._owners) > 4 * BLOCK:
                self._owners.clear()
            self._owners[identity] = self._read_owner(process)
        owner = self._owners[identity]
        if owner is not None and self.by_key.get(owner.key) is not owner:
            owner = self._by_serial.get(owner.serial)  # an heir, see `forget`
        return owner

    def _spared_in(self, table: dict[int, Process]) -> set[int]:
        return processes.pids_of(table, [self.spared] if self.spared else [])

    def _read_owner(self, process: Process) -> Child | None:
        limit = processes.message_queue_limit_of(process.pid)
        if limit is not None and limit in self._by_limit:
            return self._by_limit[limit]
        environment = processes.environment_of(process.pid)
        if environment.get(RUN_VARIABLE.encode()) == self._run.run_id.encode():
            serial = environment.get(SPAWN_VARIABLE.encode(), b"")
            if serial.isdigit() and int(serial) in self._by_serial:
                return self._by_serial[int(serial)]
        for child in self.by_key.values():
            if child.pid == process.session:
                return child
        return None
