"""What runs in the keeper: starting, stopping, exits, and what processes leave behind.

    spawned ──exec──▶ running ──exit──▶ leaving ──▶ gone
                        │ stop: signal, CONT, after the grace KILL of all that belongs to it
                        leaving: its output and its daemons have 2 s more, then they are killed
                        (what cannot be killed is told, left, and tried again as the run ends)

The exit of a process that was not asked to end is told at once. That of one that was is told when
all that belongs to it has ended, for which it has what is left of the grace: what comes next may
want its port. An exit is kept until it is acknowledged. Whose an orphan is, `roster` tells.
"""

from __future__ import annotations

import errno
import os
import signal
import time

from devstack.keeper import processes, spawn
from devstack.keeper.asking import ask, ask_orphans, send
from devstack.keeper.descriptors import check_room
from devstack.keeper.kill import freeze_and_kill
from devstack.keeper.loop import ONCE, READ
from devstack.keeper.notes import note
from devstack.keeper.protocol import EXIT, LEFT_BEHIND, to_text
from devstack.keeper.roster import Child, Roster

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devstack.keeper.loop import Loop
    from devstack.keeper.output import Drains

    Message = dict[str, object]

LEAVING_SECONDS = 2.0
AGAIN_SECONDS = 0.02
TIDY_SECONDS = 3.0
"""What is still there then may not be killed, or does not die of it: it is told, and left."""
CAPTURE_BYTES = 64 << 10


class Refused(Exception):
    """A request that cannot be done; its fields are the answer's error."""

    def __init__(self, **fields: object) -> None:
        super().__init__(str(fields.get("message", fields)))
        self.fields = fields


def _refusal(child: Child, exc: PermissionError) -> Refused:
    """A process of another user's may not be signalled."""
    return Refused(kind="signal", message=f"cannot signal {child.key}: {exc.strerror}")


class Children:
    """All processes of the run."""

    def __init__(
        self,
        loop: Loop,
        drains: Drains,
        roster: Roster,
        around: spawn.Surroundings,
        tell: Callable[[Message], None],
    ) -> None:
        self._loop = loop
        self._drains = drains
        self._roster = roster
        self._around = around
        self._tell = tell
        self.exits: dict[str, Message] = {}

    # -- asking

    def running(self) -> list[Child]:
        """Those whose exit was not told: one that is asked to end runs until all of it has ended."""
        return [child for child in self._roster.by_key.values() if not child.is_told]

    def find(self, key: str) -> Child | None:
        """The main process with this key; None when it ended, which its asker will hear.

        Raises `Refused` for a key that nobody knows.
        """
        child = self._roster.by_key.get(key)
        if child is None and key not in self.exits:
            raise Refused(kind="unknown", message=f"no process {key} runs")
        return None if child is None or child.exit is not None else child

    def descendants(self, key: str) -> list[int]:
        """The pids that belong to a process: itself, its children, daemons with its marks."""
        child = self._roster.by_key.get(key)
        return [] if child is None else self._roster.pids_of(child)

    # -- starting

    def start(
        self,
        key: str,
        group: str,
        program: spawn.Program,
        log: tuple[str, str] | None,
        stream: int,
        capture_bytes: int,
        on_started: Callable[[spawn.Failure | None], bool],
    ) -> Child:
        """Fork a process; `on_started` hears when its program runs or why it does not.

        A failure for which it gives False, since its asker is gone, is an exit like any other.
        """
        self._refuse_known(key)
        try:
            check_room()
            marks = self._roster.next_marks()
            pid, report, reader = spawn.start_with_pipe(program, marks, self._around)
        except OSError as exc:
            failure = spawn.Failure("fork", exc.errno or errno.EAGAIN, program.argv[0])
            raise Refused(**failure.to_wire()) from exc
        child = Child(key, group, pid, marks.serial, marks.limit)
        child.report = report
        child.on_started = on_started
        child.outputs.append(self._drains.open(reader, log, stream, capture_bytes))
        self._roster.add(child)
        self._loop.watch(report, READ, lambda _: self._conclude_start(child))
        return child

    def adopt(
        self,
        pid: int,
        key: str,
        group: str,
        log: tuple[str, str] | None,
        stream: int,
        pipes: Sequence[int],
    ) -> Child:
        """Take over a process that one of our children started: its exit, its output, its end."""
        self._refuse_known(key)
        if pid in self._roster.by_pid:
            raise Refused(
                kind="known", message=f"pid {pid} is {self._roster.by_pid[pid].key} already"
            )
        process = next((p for p in self._roster.descendants() if p.pid == pid), None)
        if process is None:
            raise Refused(kind="foreign", message=f"pid {pid} was not started in this run")
        owner = self._roster.owner(process)
        child = Child(key, group, pid, owner.serial if owner else 0, owner.limit if owner else None)
        try:
            child.adopted = os.pidfd_open(pid)
        except OSError as exc:
            raise Refused(kind="unknown", message=f"no process {pid} runs") from exc
        self._roster.add_adopted(child)
        for pipe in pipes:
            os.set_blocking(pipe, False)
            child.outputs.append(self._drains.open(pipe, log, stream, 0 if log else CAPTURE_BYTES))
        self._loop.watch(child.adopted, READ | ONCE, lambda _: self._adopted_ended(child))
        return child

    def _refuse_known(self, key: str) -> None:
        if key in self._roster.by_key or key in self.exits:
            raise Refused(kind="known", message=f"{key} was started already")

    def _conclude_start(self, child: Child) -> None:
        """Exec closed the pipe, or the child wrote why it did not get there."""
        if child.report < 0:
            return
        failure = spawn.read_failure(child.report)
        self._loop.forget(child.report)
        os.close(child.report)
        child.report = -1
        on_started, child.on_started = child.on_started, None
        is_heard = on_started is not None and on_started(failure)
        if failure is None or not is_heard:
            return
        self._roster.by_pid.pop(child.pid, None)
        for output in child.outputs:
            self._drains.close(output)
        if child.stop_timer is not None:
            child.stop_timer.cancel()
        self._roster.forget(child)

    # -- ending

    def signal(self, key: str, number: int) -> None:
        """Signal the main process alone."""
        child = self.find(key)
        if child is None:
            return
        try:
            send(child, number)
        except PermissionError as exc:
            raise _refusal(child, exc) from exc

    def stop(self, key: str, number: int, grace_seconds: float) -> None:
        """Ask a process to end, and end all that belongs to it after its grace."""
        self.find(key)
        child = self._roster.by_key.get(key)
        if child is None or child.is_told:
            return
        if child.stop_timer is not None:
            child.stop_timer.cancel()
        # first: what may not be asked is killed all the same, as far as it may be
        child.stop_timer = self._loop.after(grace_seconds, lambda: self._kill(child))
        self._ask(child, number)

    def kill(self, key: str) -> None:
        """End a process and all that descends from it, now; also what an ended one left behind."""
        self.find(key)
        child = self._roster.by_key.get(key)
        if child is not None:
            self._kill(child)

    def kill_steps(self) -> None:
        """The controller that waited for them is gone: nobody will ever ask how they ended."""
        for child in list(self._roster.by_key.values()):
            if child.is_step:
                self._kill(child)

    def ask_all_to_end(self) -> None:
        """TERM to everything, daemons included."""
        for child in list(self._roster.by_key.values()):
            try:
                self._ask(child, signal.SIGTERM)
            except Refused as refusal:
                note(str(refusal))  # and the others are asked
            ask_orphans(child, self._roster)

    def _ask(self, child: Child, number: int) -> None:
        try:
            ask(child, number, self._roster)
        except PermissionError as exc:
            raise _refusal(child, exc) from exc

    def _kill(self, child: Child, again_seconds: float = AGAIN_SECONDS) -> None:
        child.stopping = True
        child.stop_signal = signal.SIGKILL
        for orphan in self._roster.orphans_of(child):
            child.left[orphan.identity] = orphan
        _, refused = freeze_and_kill(lambda: self._roster.belongings(child))
        if child.exit is not None:
            child.tidying = bool(child.left)
            self._tidy_after(child, AGAIN_SECONDS)
            return
        if refused and again_seconds == AGAIN_SECONDS:
            note(f"may not kill {', '.join(map(str, refused))} of {child.key}")
        if child.stop_timer is not None:
            child.stop_timer.cancel()
        # a process that was being made while we looked is found by the next look
        longer = min(2 * again_seconds, 1.0)
        child.stop_timer = self._loop.after(again_seconds, lambda: self._kill_again(child, longer))

    def _kill_again(self, child: Child, again_seconds: float) -> None:
        if self._roster.by_key.get(child.key) is child and not child.is_told:
            self._kill(child, again_seconds)

    # -- exits

    def reap(self) -> None:
        """Take in every child that ended: ours with a report, orphans silently."""
        self._take_in()
        for child in list(self._roster.by_key.values()):
            if child.exit is not None and not child.is_told:
                self._look_after(child)

    def _take_in(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            child = self._roster.by_pid.get(ended.si_pid)
            if child is not None:
                self._conclude_start(child)
                child = self._roster.by_pid.get(ended.si_pid)  # not there: its program never ran
            if child is None:
                os.waitpid(ended.si_pid, 0)
                continue
            for output in child.outputs:
                self._drains.finish(output)
            os.waitpid(ended.si_pid, 0)
            was_signalled = ended.si_code != os.CLD_EXITED
            self._record_exit(
                child,
                None if was_signalled else ended.si_status,
                ended.si_status if was_signalled else None,
            )

    def _adopted_ended(self, child: Child) -> None:
        """An adopted process ended; where its parent still lives, the parent took the exit code."""
        self.reap()
        if child.exit is None:
            for output in child.outputs:
                self._drains.finish(output)
            self._record_exit(child, None, None)

    def _record_exit(self, child: Child, code: int | None, number: int | None) -> None:
        del self._roster.by_pid[child.pid]
        if child.adopted >= 0:
            self._loop.forget(child.adopted)
            os.close(child.adopted)
        child.exit = {
            "key": child.key,
            "group": child.group,
            "pid": child.pid,
            "start_time": child.start,
            "code": code,
            "signal": number,
            "at": time.monotonic(),
            "meta": child.meta,
        }
        for orphan in self._roster.orphans_of(child):
            # what shares the session of one that is asked to end is asked as well, and no daemon
            if not child.stopping or orphan.session != child.pid:
                child.left[orphan.identity] = orphan
        if child.stopping:
            self._look_after(child)
        else:
            self._leave(child)

    def _look_after(self, child: Child) -> None:
        """Go on with a process that was asked to end and whose main process has ended."""
        ask_orphans(child, self._roster)
        if self._roster.orphans_of(child):
            return  # the end of any of them leads here again
        if not any(process.is_alive for process in self._roster.belongings(child)):
            self._leave(child)

    def _leave(self, child: Child) -> None:
        self._tell_exit(child)
        if child.left or any(output.is_open for output in child.outputs):
            self._tidy_after(child, LEAVING_SECONDS)
        else:
            self._roster.forget(child)

    def _tell_exit(self, child: Child) -> None:
        assert child.exit is not None
        if child.stop_timer is not None:
            child.stop_timer.cancel()
        for output in child.outputs:
            self._drains.finish(output)
        child.exit["output"] = to_text(b"".join(output.captured() for output in child.outputs))
        child.exit["left_behind"] = [str(process) for process in child.left.values()]
        child.is_told = True
        self.exits[child.key] = child.exit
        self._tell({"event": EXIT, **child.exit})

    def _tidy_after(self, child: Child, seconds: float) -> None:
        self._loop.after(seconds, lambda: self._tidy(child, AGAIN_SECONDS, time.monotonic()))

    def _tidy(self, child: Child, again_seconds: float, started: float) -> None:
        """The time of what an ended process left behind is over."""
        if self._roster.by_key.get(child.key) is not child:
            return
        killed, refused = freeze_and_kill(lambda: self._roster.belongings(child))
        for process in killed + refused:
            child.left[process.identity] = process
            child.tidying = True
        if (killed or refused) and time.monotonic() - started < TIDY_SECONDS:
            longer = min(2 * again_seconds, 1.0)
            self._loop.after(again_seconds, lambda: self._tidy(child, longer, started))
            return
        for output in child.outputs:
            self._drains.close(output)
        if not child.is_told:
            self._tell_exit(child)
        self._roster.forget(child)
        if child.tidying:
            left = [p for p in child.left.values() if processes.is_running(p.identity)]
            gone = [p for p in child.left.values() if p not in left]
            message: Message = {"event": LEFT_BEHIND, "key": child.key, "group": child.group}
            names = {"killed": list(map(str, gone)), "still_there": list(map(str, left))}
            self._tell({**message, **names})
