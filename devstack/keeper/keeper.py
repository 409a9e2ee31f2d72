"""The life of a keeper: from its lock to its last process, and what it does when somebody is lost.

    controller's connection lost   attached: TERM, KILL after 1 s, the on_loss command, end
                                   detached: a new controller, at most three a minute
    warden lost                    kill everything at once, end
    TERM, INT                      as the loss of an attached controller
    shutdown                       kill what is left, forget the run, end
    a bug of the keeper's own      told in keeper.log, then as the loss of an attached controller

A dead keeper is a dead run. The record of one that did not end as asked stays, with the reason, for
the next command to tell.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time

from devstack.keeper import namespaces, processes, protocol, spawn, verbs
from devstack.keeper.children import Children, Refused
from devstack.keeper.connections import Connection, Listener
from devstack.keeper.hold import Hold
from devstack.keeper.kill import Killed, freeze_and_kill, kill_until_none
from devstack.keeper.loop import READ, Loop
from devstack.keeper.marks import Run, boot_id, open_mark, record_run
from devstack.keeper.notes import note
from devstack.keeper.output import Drains, SharedLog
from devstack.keeper.places import Places
from devstack.keeper.roster import Roster
from devstack.keeper.succession import Succession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from devstack.keeper.processes import Identity, Process
    from devstack.keeper.roster import Child

    Message = dict[str, object]

GREETING_SECONDS = 60.0
"""A keeper may be started while its controller still loads what it consists of."""
TERM_SECONDS = 1.0
ON_LOSS_SECONDS = 10.0
KILL_SECONDS = 5.0
LOOK_SECONDS = 1.0
ON_LOSS_KEY = "on_loss"


class Options:
    """What the keeper is told by the command line, see `main`."""

    __slots__ = ("controller", "folder", "open_files", "ready", "run_id", "version")

    def __init__(
        self,
        folder: str,
        run_id: str,
        *,
        controller: Identity,
        ready: int,
        open_files: int | None,
        version: str,
    ) -> None:
        self.folder = folder
        self.run_id = run_id
        self.controller = controller
        self.ready = ready
        self.open_files = open_files
        self.version = version


class Keeper:
    """Everything between the lock and the end."""

    def __init__(self, options: Options, warden: Identity, line_to_warden: socket.socket) -> None:
        self._options = options
        self._places = Places(options.folder)
        self._hold = Hold(self._places)
        self._warden = warden
        self._warden_line = line_to_warden
        self._loop = Loop(self._failed)
        self._listener = Listener(self._loop, self._places.keeper_socket, self._connected)
        self._controller: Connection | None = None
        self._connections: set[Connection] = set()
        self._is_detached = False
        self._on_loss: verbs.Command | None = None
        self._is_ending = False
        self._was_greeted = False
        self._is_recorded = False
        """Whether the record says how the run ended; else the warden says it."""

    def run(self) -> int:
        """Live; returns when nothing of the run is left that could be ended. Gives the exit code."""
        if not self._hold.take():
            self._tell_ready(b"another keeper of this stack is running\n")
            return 1
        limits = self._raise_open_files()
        self._run = Run(
            self._places.folder,
            self._options.run_id,
            uid=os.geteuid(),
            boot=boot_id(),
            started_at=time.time(),
            keeper=(os.getpid(), processes.start_of(os.getpid())),
            warden=self._warden,
        )
        record_run(self._run)
        self._roster = Roster(self._run, open_mark(self._run))
        self._listener.bind()
        self._tell_ready(b"ready\n")
        scratch = os.path.join(self._places.folder, f"hosts.{os.getpid()}")
        capabilities = namespaces.detect(scratch)
        self._around = spawn.Surroundings(self._places.folder, capabilities, limits)
        self._drains = Drains(self._loop, self._log_problem)
        self._children = Children(
            self._loop, self._drains, self._roster, self._around, self._tell_controller
        )
        self._succession = Succession(self._loop, self._around, self._wants_controller)
        self._listen_to_signals()
        self._loop.watch(self._warden_line.fileno(), READ, lambda _: self._warden_lost())
        self._loop.after(LOOK_SECONDS, self._look_after_files)
        self._await_first_controller()
        self._loop.run()
        return 0 if self._is_recorded else 1

    # -- start

    def _raise_open_files(self) -> tuple[int, int]:
        """As many as are allowed for us; children get what the user's shell has."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        wanted = self._options.open_files
        if wanted is not None and (hard == resource.RLIM_INFINITY or wanted <= hard):
            soft = wanted
        return soft, hard

    def _tell_ready(self, line: bytes) -> None:
        if self._options.ready < 0:
            return
        descriptor, self._options.ready = self._options.ready, -1
        try:
            os.write(descriptor, line)
        except BrokenPipeError:
            return  # whoever started us is gone; the missing greeting ends us
        finally:
            os.close(descriptor)

    def _listen_to_signals(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._loop.watch(reader, READ, lambda _: self._signals(reader))

    def _signals(self, reader: int) -> None:
        try:
            numbers = os.read(reader, 4096)
        except BlockingIOError:
            return
        self._reap()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._end_gently("the keeper was asked to end by a signal")

    def _await_first_controller(self) -> None:
        """Whoever started us must greet, or live on to do so."""
        self._loop.after(GREETING_SECONDS, self._miss_greeting)
        pid, start = self._options.controller
        if pid == 0:
            return
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            self._loop.after(0, self._miss_greeting)
            return

        def ended(_: int) -> None:
            self._loop.forget(descriptor)
            os.close(descriptor)
            self._miss_greeting()

        if processes.start_of(pid) != start:
            os.close(descriptor)
            self._loop.after(0, self._miss_greeting)
            return
        self._loop.watch(descriptor, READ, ended)

    def _miss_greeting(self) -> None:
        if not self._was_greeted:
            self._end_gently("no controller came")

    def _look_after_files(self) -> None:
        if not self._is_ending:
            self._hold.restore(self._run, self._listener)
            self._loop.after(LOOK_SECONDS, self._look_after_files)

    # -- clients

    def _connected(self, accepted: socket.socket) -> None:
        self._connections.add(Connection(self._loop, accepted, self._line, self._disconnected))

    def _disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection is self._controller:
            self._controller = None
            self._controller_lost()

    def _line(self, connection: Connection, line: bytes) -> None:
        try:
            message = protocol.decode(line)
        except ValueError:
            connection.send({"ok": False, "error": {"kind": "invalid", "message": "not a message"}})
            connection.close()
            self._disconnected(connection)
            return
        request = message.get("id")

        def answer(fields: Message) -> bool:
            return connection.send({"id": request, **fields})

        try:
            fields = self._do(connection, message, answer)
        except Refused as refusal:
            fields = {"ok": False, "error": refusal.fields}
        if fields is not None:
            answer(fields)

    def _do(
        self, connection: Connection, message: Message, answer: Callable[[Message], bool]
    ) -> Message | None:
        """The answer to a request, None when it comes later."""
        verb = message.get("verb")
        children = self._children
        if verb == protocol.HELLO:
            return self._greet(connection, message)
        if verb == protocol.LIST:
            return {"ok": True, **self._state(), **verbs.list_processes(children)}
        if connection is not self._controller:
            raise Refused(kind="greeting", message="only the controller may ask for this")
        if self._is_ending:
            raise Refused(kind="ending", message="the keeper is ending")
        if verb == protocol.SPAWN:
            verbs.spawn_process(message, children, answer)
            return None
        if verb == protocol.SHUTDOWN:
            self._shut_down(answer)
            return None
        return {"ok": True, **self._do_at_once(connection, message)}

    def _do_at_once(self, connection: Connection, message: Message) -> Message:
        children = self._children
        match message.get("verb"):
            case protocol.SIGNAL:
                children.signal(verbs.text(message, "key"), verbs.signal_number(message))
            case protocol.STOP:
                verbs.stop_process(message, children)
            case protocol.KILL:
                children.kill(verbs.text(message, "key"))
            case protocol.ACK:
                children.exits.pop(verbs.text(message, "key"), None)
            case protocol.ADOPT:
                pipes = connection.take_descriptors(verbs.number(message, "pipes"))
                return verbs.adopt_process(message, children, pipes)
            case protocol.DESCENDANTS:
                return {"pids": children.descendants(verbs.text(message, "key"))}
            case protocol.ON_LOSS:
                self._on_loss = verbs.command_of(message.get("command"))
            case protocol.MODE:
                self._is_detached = verbs.text(message, "mode") == "detached"
                self._succession.command = verbs.command_of(message.get("respawn"))
            case other:
                raise Refused(kind="invalid", message=f"there is no verb {other!r}")
        return {}

    def _greet(self, connection: Connection, message: Message) -> Message:
        if message.get("protocol") != protocol.PROTOCOL:
            return {
                "ok": False,
                "error": {
                    "kind": "protocol",
                    "protocol": protocol.PROTOCOL,
                    "version": self._options.version,
                },
            }
        if verbs.text(message, "role") == "controller":
            if self._is_ending:
                raise Refused(kind="ending", message="the keeper is ending")
            earlier, self._controller = self._controller, connection
            if earlier is not None and earlier is not connection:
                earlier.close()  # controllers have a lock of their own: this one is done
                self._connections.discard(earlier)
            self._was_greeted = True
            self._spare((verbs.number(message, "pid"), verbs.number(message, "start_time")))
        return {
            "ok": True,
            "protocol": protocol.PROTOCOL,
            "version": self._options.version,
            "run_id": self._run.run_id,
            "pid": os.getpid(),
            "warden": self._warden[0],
            "started_at": self._run.started_at,
            "capabilities": self._around.capabilities.to_wire(),
            "has_limit_mark": self._run.first_limit is not None,
        }

    def _state(self) -> Message:
        return {
            "mode": "detached" if self._is_detached else "attached",
            "has_controller": self._controller is not None,
            "has_on_loss": self._on_loss is not None,
        }

    def _tell_controller(self, message: Message) -> None:
        if self._controller is not None:
            self._controller.send(message)

    def _log_problem(self, log: SharedLog) -> None:
        self._tell_controller(
            {
                "event": protocol.LOG_PROBLEM,
                "folder": log.key[0],
                "name": log.key[1],
                "problem": log.problem,
                "dropped": log.writer.dropped,
            }
        )

    # -- controllers

    def _spare(self, controller: Identity) -> None:
        """A controller may be our child, and is no part of the stack: no kill loop touches it."""
        self._roster.spared = controller
        try:
            self._warden_line.send(b"%d %d\n" % controller)
        except OSError:
            return  # its death is on its way to us

    def _controller_lost(self) -> None:
        if self._is_ending:
            return
        if not self._is_detached:
            self._end_gently("its controller was lost")
            return
        self._children.kill_steps()
        self._succession.plan()

    def _wants_controller(self) -> bool:
        return self._is_detached and self._controller is None and not self._is_ending

    def _reap(self) -> None:
        self._children.reap()
        self._succession.look()

    # -- the end

    def _warden_lost(self) -> None:
        """Nobody would clean up after us any more."""
        self._loop.forget(self._warden_line.fileno())
        self._close_door()
        self._end("its warden was killed")

    def _end_gently(self, reason: str) -> None:
        """TERM to all, KILL to what is left a second later, and the last command meanwhile."""
        if self._is_ending:
            return
        started = time.monotonic()
        # planned before anything is done: whatever fails here, the end comes
        self._loop.after(0, lambda: self._wait_for_end(reason, started))
        self._close_door()
        self._children.ask_all_to_end()
        if self._on_loss is not None:
            self._start_on_loss(self._on_loss)

    def _start_on_loss(self, command: verbs.Command) -> None:
        program = spawn.Program(command.argv, command.env, command.cwd)

        def told(failure: spawn.Failure | None) -> bool:
            if failure is not None:
                note(f"cannot run {command.argv[0]}: {os.strerror(failure.number)}")
            return True

        try:
            self._children.start(ON_LOSS_KEY, ON_LOSS_KEY, program, None, 0, 4096, told)
        except Refused as refusal:
            note(f"cannot run {command.argv[0]}: {refusal}")

    def _failed(self, exc: Exception) -> None:
        """A bug: what runs gets the second in which databases end well all the same."""
        note("the keeper failed, which is a bug of devstack's:")
        sys.__excepthook__(type(exc), exc, exc.__traceback__)
        self._end_gently(f"its keeper failed, see {self._places.keeper_log}")

    def _wait_for_end(self, reason: str, started: float) -> None:
        again = self._loop.after(0.02, lambda: self._wait_for_end(reason, started))
        passed = time.monotonic() - started
        last_command = self._last_command()
        is_over = passed >= TERM_SECONDS or not self._roster.has_any()
        if passed >= ON_LOSS_SECONDS or (last_command is None and is_over):
            again.cancel()
            self._end(reason)
        elif passed >= TERM_SECONDS and last_command is not None:
            freeze_and_kill(lambda: self._roster.descendants(without=last_command.pid))

    def _last_command(self) -> Child | None:
        return next((c for c in self._children.running() if c.key == ON_LOSS_KEY), None)

    def _close_door(self) -> None:
        self._is_ending = True
        try:
            self._listener.close()
        except OSError as exc:
            note(f"cannot remove {self._places.keeper_socket}: {exc}")

    def _end(self, reason: str) -> None:
        """Kill what is left and go; the record tells the next command."""
        try:
            self._record_end(reason, self._kill(), is_told=self._was_greeted)
        finally:
            self._leave()

    def _shut_down(self, answer: Callable[[Message], bool]) -> None:
        self._close_door()
        try:
            ended = self._kill()
            self._record_end("it was asked to end", ended, is_told=False)
            answer({"ok": True, "killed": list(map(str, ended.killed))})
        finally:
            self._leave()

    def _record_end(self, reason: str, ended: Killed, *, is_told: bool) -> None:
        """What lives on is always told: it may hold ports and data."""
        self._run.ended = reason
        self._run.set_what_became(ended)
        if is_told or ended.left:
            self._run.write()
        else:
            self._run.remove()
        self._is_recorded = True

    def _leave(self) -> None:
        self._loop.end()
        self._drains.close_all()
        for connection in list(self._connections):
            connection.close()

    def _kill(self) -> Killed:
        return kill_until_none(self._descendants, self._children.reap, KILL_SECONDS)

    def _descendants(self) -> list[Process]:
        """Everything of the run that is alive."""
        return [process for process in self._roster.descendants() if process.is_alive]
