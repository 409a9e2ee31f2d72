"""How a command talks to the controller of a stack: blocking sockets, and nothing slow to import.

A reader that waits for several things at once (`up`) uses `fileno` and `arrived`; all others `ask`.
"""
# pathlib is kept out: commands start without it
# ruff: noqa: PTH110, PTH116, PTH123, PTH208

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import time

from devstack import __version__
from devstack.api.wire import END_OF_LINE, PROTOCOL, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from devstack.keeper.places import Places

ANSWER_SECONDS = 5.0
"""A listing takes milliseconds: who says nothing for so long was stopped, or hangs."""
SIGN_SECONDS = ANSWER_SECONDS / 2
"""Where an answer takes its time: who says nothing for so long is asked whether it lives."""
GIVE_UP_SECONDS = 12.5
"""Who has not answered even that for so long will not."""
_READ = 1 << 16
MOST_READS = 64
"""Then what came is handled first, however much more there is."""
_NOBODY = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR)


class Lost(Exception):
    """The controller is gone in the middle of it."""


class Silent(Exception):
    """The controller is there and does not answer."""

    def __init__(self, pid: int) -> None:
        who = f"the controller (pid {pid})" if pid else "the controller"
        super().__init__(f"{who} does not answer")
        self.pid = pid
        down = "devstack down ends it and all it runs"
        self.hint = f"kill -CONT {pid} lets it go on if it was stopped; {down}" if pid else down


class OtherProtocol(Exception):
    """The running controller speaks another protocol."""

    def __init__(self, hello: Hello) -> None:
        super().__init__(
            f"cannot use the running controller (devstack {hello.version}, protocol "
            f"{hello.protocol}): this is devstack {__version__}, protocol {PROTOCOL}"
        )
        self.hint = "stop the stack with devstack down, then devstack up"


class Hello:
    """What the controller said of itself."""

    __slots__ = ("has_lease", "logs", "pid", "protocol", "stack_id", "version")

    def __init__(self, said: object) -> None:
        fields = said if isinstance(said, dict) else {}
        self.protocol = int(fields.get("protocol", 0))
        self.version = str(fields.get("version", "0"))
        self.pid = int(fields.get("pid", 0))
        self.stack_id = str(fields.get("stack_id", ""))
        self.logs = str(fields.get("logs", ""))
        self.has_lease = bool(fields.get("lease"))


class Answer:
    """How a request ended."""

    __slots__ = ("exit_code", "lines")

    def __init__(self, end: object) -> None:
        fields = end if isinstance(end, dict) else {}
        self.exit_code = int(fields.get("exit_code", 1))
        self.lines = [str(line) for line in fields.get("lines", ())]


class Client:
    """One connection; the greeting goes out with the first request."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._unsent = encode({"hello": {"protocol": PROTOCOL, "version": __version__}})
        self._buffer = b""
        self._requests = 0
        self._hello: Hello | None = None
        self._on_silence: Callable[[Silent], None] | None = None
        self._heard_at = time.monotonic()
        """When something came last, or was asked for."""
        self._sign_asked_at: float | None = None
        self._is_told = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    @property
    def peer_pid(self) -> int:
        """Who listens there, as this process sees it; 0 where the system does not tell."""
        if not hasattr(socket, "SO_PEERCRED"):
            return 0
        told = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4)
        return int.from_bytes(told, sys.byteorder)

    def limit(self, seconds: float) -> None:
        """From here on wait no longer for what comes next; then raises Silent."""
        self._on_silence = None
        self._socket.settimeout(seconds)

    def wait_patiently(self, on_silence: Callable[[Silent], None]) -> None:
        """From here on wait for as long as the controller shows that it lives.

        Once it does not, `on_silence` is called after five seconds, and Silent raised after fifteen.
        """
        self._socket.settimeout(None)
        self._on_silence = on_silence

    def mind_silence(self) -> None:
        """To be called while nothing comes: ask for a sign of life, then do as `wait_patiently` says.

        By steps, so that one who slept through the time itself still takes what came meanwhile.
        """
        now = time.monotonic()
        if self._sign_asked_at is None:
            if now - self._heard_at >= SIGN_SECONDS:
                self.send("ping")
                self._sign_asked_at = now
            return
        silent = now - self._sign_asked_at
        if silent >= GIVE_UP_SECONDS:
            raise Silent(self.peer_pid)
        if silent >= SIGN_SECONDS and not self._is_told and self._on_silence is not None:
            self._is_told = True
            self._on_silence(Silent(self.peer_pid))

    def greet(self) -> Hello:
        """Whom we talk to, whatever its protocol; raises Lost."""
        if self._hello is None:
            self._flush(b"")
            self._hello = Hello(self._next().get("hello"))
        return self._hello

    def send(self, do: str, **arguments: object) -> int:
        """Ask for something; the id by which the answers are known."""
        self._requests += 1
        self._heard()
        self._flush(encode({"id": self._requests, "do": do, **arguments}))
        return self._requests

    def ask(
        self,
        do: str,
        on_data: Callable[[dict[str, object]], None] | None = None,
        **arguments: object,
    ) -> Answer:
        """Ask for one thing and wait for its end; raises Lost and OtherProtocol."""
        number = self.send(do, **arguments)
        hello = self.greet()
        if hello.protocol != PROTOCOL and do != "down":
            raise OtherProtocol(hello)
        while True:
            message = self._next()
            if message.get("id") != number:
                continue
            if "end" in message:
                return Answer(message["end"])
            data = message.get("data")
            if on_data is not None and isinstance(data, dict):
                on_data(data)

    def wait(self) -> dict[str, object]:
        """The next message; raises Lost."""
        self.greet()
        return self._next()

    def arrived(self) -> list[dict[str, object]]:
        """Messages that are here now, without waiting where there is nothing; raises Lost."""
        self._socket.setblocking(False)
        try:
            for _ in range(MOST_READS):
                self._receive()
        except BlockingIOError:
            pass
        except Lost:
            if END_OF_LINE not in self._buffer:
                raise
        finally:
            if self._socket.fileno() >= 0:
                self._socket.setblocking(True)
        messages: list[dict[str, object]] = []
        while END_OF_LINE in self._buffer:
            messages.append(self._next())
        return messages

    def _flush(self, data: bytes) -> None:
        data = self._unsent + data
        if not data:
            return  # even nothing cannot be sent to who answered and has gone; the answer can be read
        self._unsent = b""
        try:
            self._socket.sendall(data)
        except OSError as exc:
            raise Lost from exc

    def _next(self) -> dict[str, object]:
        while True:
            line, end, rest = self._buffer.partition(END_OF_LINE)
            if end:
                self._buffer = rest
                return decode(line)
            if self._on_silence is not None:
                while not ready((self.fileno(),), SIGN_SECONDS):
                    self.mind_silence()
            self._receive()

    def _heard(self) -> None:
        self._heard_at = time.monotonic()
        self._sign_asked_at, self._is_told = None, False

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            raise
        except TimeoutError as exc:
            raise Silent(self.peer_pid) from exc
        except OSError as exc:
            raise Lost from exc
        if not data:
            raise Lost
        self._buffer += data
        self._heard()


def ready(descriptors: Iterable[int], seconds: float) -> set[int]:
    """Those that can be read from, waited for so long at most; any number of files may be open."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(seconds * 1000)}


def connect(places: Places) -> Client | None:
    """The controller of a stack; None where none answers. Raises OSError where it may not be asked.

    Raises Silent where so many wait for it already that nobody else can.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)  # else it would wait for its turn without end
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            connection.connect(places.control_socket)
            break
        except BlockingIOError as exc:
            if time.monotonic() >= deadline:
                connection.close()
                raise Silent(lock_holder(places) or 0) from exc
            time.sleep(0.02)  # its queue is full: nothing can be awaited
        except OSError as exc:
            connection.close()
            if exc.errno in _NOBODY:
                return None
            raise
    connection.setblocking(True)
    return Client(connection)


def lock_holder(places: Places) -> int | None:
    """The pid of the controller that holds the lock of the stack, by proc_locks(5); None where none does.

    Looks only: to try would refuse a controller that starts. 0 where the system does not tell the pid.
    """
    try:
        lock = os.stat(places.controller_lock)
        with open("/proc/locks", encoding="ascii") as file:
            for fields in map(str.split, file):
                if (
                    len(fields) > 5
                    and fields[1] == "FLOCK"
                    and fields[5].endswith(f":{lock.st_ino}")
                ):
                    pid = max(0, int(fields[4]))
                    if not pid or _has_open(pid, lock):
                        return pid
    except FileNotFoundError:
        pass
    return None


def _has_open(pid: int, file: os.stat_result) -> bool:
    """Whether a process has a file open, as far as one may look.

    Files of other file systems have the same numbers, and the device in `/proc/locks` is not always
    that of stat(2) (btrfs).
    """
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except PermissionError:
        return True
    except (FileNotFoundError, ProcessLookupError):
        return False
    for name in names:
        try:
            if os.path.samestat(os.stat(f"{folder}/{name}"), file):
                return True
        except OSError:
            pass  # closed meanwhile, or the process ends: then proc(5) refuses to follow it
    return False


def connect_soon(places: Places, seconds: float) -> Client | None:
    """As `connect`, but waits for a controller that the living keeper of the stack is starting."""
    deadline = time.monotonic() + seconds
    while True:
        client = connect(places)
        if client is not None or not has_keeper(places) or time.monotonic() >= deadline:
            return client
        time.sleep(0.02)  # nothing can be awaited: the socket does not exist yet


def has_keeper(places: Places) -> bool:
    """Whether a keeper of the stack lives."""
    if not os.path.exists(places.keeper_socket):
        return False
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        connection.connect(places.keeper_socket)
    except BlockingIOError:
        return True  # its queue is full: it was stopped, or hangs
    except OSError:
        return False
    finally:
        connection.close()
    return True
