"""The control socket: who may connect, what arrives, and the end of it all.

    bind beside the name, listen, rename into place ─▶ connections ─▶ requests ─▶ answers

The folder is 0700 and the socket is bound under umask 077, so it is never open to others, not for a
moment; the uid of each peer is looked at as well. What is asked is done in `answers`.
"""

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
import time
from collections.abc import Mapping
from typing import Any

from devstack import __version__
from devstack.api import listings
from devstack.api.answers import TABLE, Answers
from devstack.api.client import has_keeper
from devstack.api.control import Control, Outcome
from devstack.api.locate import PlaceRefused, Places, remove_entry, write_entry
from devstack.api.requests import BadRequest, Request
from devstack.api.wire import LONGEST_LINE, MOST_REQUESTS, PROTOCOL, Malformed, decode, encode
from devstack.keeper.places import make_folders

log = logging.getLogger("devstack.api")

LOOK_EVERY_SECONDS = 1.0
"""How soon a removed socket is noticed: the file cannot be awaited without inotify."""
IDLE_SECONDS = 30.0
"""A controller that nobody gave a stack ends after this."""
LAST_WORDS_SECONDS = 2.0
_BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")


class SocketTaken(Exception):
    """Another controller answers on the control socket of this stack."""


class ControlServer:
    """Serves one `Control` until closed."""

    def __init__(self, control: Control, places: Places, *, has_new_keeper: bool = False) -> None:
        """`has_new_keeper`: the keeper that is there is this controller's own, and runs nothing yet."""
        self._control = control
        self._places = places
        takes_over = not has_new_keeper and has_keeper(places)
        self._answers = Answers(control, takes_over=takes_over, on_applied=self._keep_entry)
        self._tasks: asyncio.TaskGroup | None = None
        self._connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        self._bound: tuple[int, int] | None = None
        self._started_at = time.time()
        self._used_at = time.monotonic()
        self._entry: Mapping[str, Any] = {}
        self._trouble = ""
        self._is_closed = asyncio.Event()
        self.listening = asyncio.Event()
        """Set once the socket is there."""

    async def serve(self) -> None:
        """Answer until `close`. Raises SocketTaken, PlaceRefused, OSError where it cannot begin.

        An exception out of a request is a bug and comes out here.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self._bind()
                self.listening.set()
                watcher = tasks.create_task(self._watch())
                await self._answers.closing.wait()
                watcher.cancel()
                await self._say_what_is_due()
                self._withdraw()
                for connection in tuple(self._connections):
                    connection.end()  # whoever waits for it finds nothing of ours any more
        finally:
            self._withdraw()
            self._is_closed.set()

    async def close(self) -> None:
        """Give every answer that is due, then end; the socket and the stack's entry are gone after it."""
        await self._answers.data_removed()
        self._answers.close()
        if self._tasks is not None:
            await self._is_closed.wait()

    # ── the socket ────────────────────────────────────────────────────────────────────────────

    async def _bind(self) -> None:
        make_folders(self._places)
        path = self._places.control_socket
        if _answers_on(path):
            raise SocketTaken(f"cannot serve on {path}: another controller answers there")
        listener = bind_privately(path)
        self._bound = _identity_of(path)
        self._listener = await asyncio.start_unix_server(
            self._accept, sock=listener, limit=LONGEST_LINE
        )

    async def _watch(self) -> None:
        """Bind again where the socket was removed; keep the entry for `devstack ls` as it is."""
        while True:
            if not self._is_bound():
                await self._bind_again()
            if self._control.state.stack is not None:
                self._keep_entry()
            if self._is_idle():
                log.warning("nobody gave this controller a stack: it ends")
                await self._control.down(volumes=False)
                return
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _bind_again(self) -> None:
        """A place that cannot be had now (its parent is gone, the disk is full) is tried again."""
        if self._bound is not None:
            log.warning("the control socket was removed: binding it again")
        assert self._listener is not None
        self._listener.close()
        self._bound = None
        try:
            await self._bind()
        except (PlaceRefused, OSError) as exc:
            self._warn_once(f"cannot keep the control socket: {exc}")

    def _is_bound(self) -> bool:
        return self._bound is not None and _identity_of(self._places.control_socket) == self._bound

    def _keep_entry(self) -> None:
        """For `devstack ls`: at once when a stack was applied, then as it changes."""
        entry = listings.entry(self._control, self._started_at)
        if entry == self._entry and _identity_of(self._places.entry) is not None:
            return
        try:
            write_entry(self._places, entry)
        except OSError as exc:
            self._warn_once(f"cannot keep the entry for devstack ls: {exc}")
        else:
            self._entry = entry

    def _warn_once(self, trouble: str) -> None:
        """At each look it is the same trouble."""
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("%s; it is tried again", trouble)

    def _is_idle(self) -> bool:
        if self._connections or self._control.state.stack is not None:
            self._used_at = time.monotonic()
        return time.monotonic() - self._used_at > IDLE_SECONDS

    def _withdraw(self) -> None:
        """Leave nothing of ours behind where that can be, and nothing of anybody else's touched."""
        if self._listener is None:
            return  # not begun, or done already: what is there by now is the next controller's
        self._listener.close()
        self._listener = None
        if self._is_bound():
            with contextlib.suppress(OSError):
                os.unlink(self._places.control_socket)  # noqa: PTH108 - beside os.lstat, in the same terms
        if not self._answers.is_leaving:
            with contextlib.suppress(OSError):
                remove_entry(self._places)

    # ── connections ───────────────────────────────────────────────────────────────────────────

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer.get_extra_info("socket"))
        if peer is not None and peer[1] != os.geteuid():
            log.warning("refused a connection of uid %d (pid %d)", peer[1], peer[0])
            writer.close()
            return
        if self._tasks is None or self._answers.closing.is_set():
            writer.close()
            return
        # a task of ours, so that a bug in it ends the controller instead of being logged
        self._tasks.create_task(self._serve_connection(reader, writer))

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        assert self._tasks is not None
        connection = _Connection(writer, self._answers, self._tasks)
        self._connections.add(connection)
        try:
            await connection.read(reader, self._hello())
        finally:
            self._connections.discard(connection)
            connection.abandon()
            if connection.holds_lease and not self._answers.closing.is_set():
                self._answers.lessee = None
                self._control.release_lease(lost=not connection.asked_to_end)
            writer.close()

    def _hello(self) -> dict[str, object]:
        return {
            "protocol": PROTOCOL,
            "version": __version__,
            "pid": os.getpid(),
            "stack_id": self._places.stack_id,
            "logs": os.fspath(self._control.logs),
            "lease": self._answers.lessee is not None,
        }

    async def _say_what_is_due(self) -> None:
        """Answers that are due go out, for a moment."""
        if self._listener is not None:
            self._listener.close()
        for connection in self._connections:
            if connection.holds_lease and self._answers.is_leaving:
                connection.say_left()
        due = {task for connection in self._connections for task in connection.under_way}
        if due:
            await asyncio.wait(due, timeout=LAST_WORDS_SECONDS)


class _Connection:
    """One client and its requests under way."""

    def __init__(
        self, writer: asyncio.StreamWriter, answers: Answers, tasks: asyncio.TaskGroup
    ) -> None:
        self._writer = writer
        self._answers = answers
        self._tasks = tasks
        self._finishing: set[asyncio.Task[None]] = set()
        self.under_way: set[asyncio.Task[None]] = set()
        self.holds_lease = False
        self.asked_to_end = False
        self._understands = True

    async def read(self, reader: asyncio.StreamReader, hello: Mapping[str, object]) -> None:
        """Take requests until the client is gone."""
        await self._send({"hello": hello})
        greeted = False
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                await self._refuse(None, f"a request is longer than {LONGEST_LINE} bytes")
                return
            except ConnectionError:
                return
            if not line.endswith(b"\n"):
                return
            try:
                message = decode(line)
                if not greeted:
                    greeted = True
                    self._greet(message)
                else:
                    await self._begin(message)
            except Malformed as reason:
                await self._refuse(None, str(reason))
                return

    def _greet(self, message: Mapping[str, Any]) -> None:
        hello = message.get("hello")
        protocol = hello.get("protocol") if isinstance(hello, dict) else None
        if not isinstance(protocol, int):
            raise Malformed("the first message must be hello")
        self._understands = protocol == PROTOCOL

    async def _begin(self, message: Mapping[str, Any]) -> None:
        number, do = message.get("id"), message.get("do")
        if isinstance(number, bool) or not isinstance(number, int) or not isinstance(do, str):
            raise Malformed("a request needs 'id' and 'do'")
        if not self._understands and do != "down":
            await self._refuse(
                number,
                f"this controller is devstack {__version__} and speaks protocol {PROTOCOL}",
                "stop the stack with devstack down, then devstack up",
            )
            return
        if len(self.under_way) >= MOST_REQUESTS:
            await self._refuse(number, f"{MOST_REQUESTS} requests of this client are under way")
            return
        task = self._tasks.create_task(self._answer(number, do, message))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)
        if do in TABLE and TABLE[do].is_finished:
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _answer(self, number: int, do: str, message: Mapping[str, Any]) -> None:
        async def tell(data: Mapping[str, Any]) -> None:
            await self._send({"id": number, "data": dict(data)})

        try:
            outcome = await self._answers.answer(Request(do, message, self, tell))
        except BadRequest as reason:
            outcome = Outcome(2, (f"cannot do what was asked: {reason}",))
        end = {"exit_code": outcome.exit_code, "lines": list(outcome.lines)}
        await self._send({"id": number, "end": end})

    async def _refuse(self, number: int | None, reason: str, hint: str = "") -> None:
        lines = [f"cannot understand the request: {reason}"] + ([f"hint: {hint}"] if hint else [])
        await self._send({"id": number, "end": {"exit_code": 2, "lines": lines}})

    async def _send(self, message: dict[str, object]) -> None:
        """Write and wait until the client has taken most of it; a client that is gone misses it."""
        if self._writer.is_closing():
            return
        self._writer.write(encode(message))
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def abandon(self) -> None:
        """The client is gone: what only it waited for ends, what changes something goes on."""
        for task in self.under_way - self._finishing:
            task.cancel()

    def say_left(self) -> None:
        """The holder of the lease is told to take it again, from the controller that follows."""
        if not self._writer.is_closing():
            self._writer.write(encode({"left": True}))

    def end(self) -> None:
        """Close; whoever does not read loses what it did not take."""
        for task in self.under_way:
            task.cancel()
        self._writer.close()
        if self._writer.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, self._writer.transport.abort)


def bind_privately(path: str) -> socket.socket:
    """A listening socket at `path`, open to its owner alone from the first moment, in place at once.

    Listens under another name first: whoever finds the name can connect.
    """
    temporary = f"{path}.{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108 - of a dead process with our number
        before = os.umask(0o077)
        try:
            listener.bind(temporary)
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        os.rename(temporary, path)  # noqa: PTH104 - paths of sockets are text here
    except BaseException:
        listener.close()
        raise
    return listener


def peer_of(connection: socket.socket) -> tuple[int, int] | None:
    """(pid, uid) of who connected; None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid


def _identity_of(path: str) -> tuple[int, int] | None:
    """Which file a name stands for; None where there is none."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _answers_on(path: str) -> bool:
    """Whether something lives behind a socket; only what is dead may be replaced."""
    if not os.path.lexists(path) or not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # its queue is full
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True
