"""The keeper's socket: who may connect, lines in, lines out, descriptors with them.

The file is bound under the keeper's lock, in a folder of mode 0700, with a umask of 077: there is no
moment in which somebody else could connect, and `SO_PEERCRED` is asked all the same.
"""

from __future__ import annotations

import array
import os
import socket
import struct

from devstack.keeper import protocol
from devstack.keeper.descriptors import check_room
from devstack.keeper.loop import READ, WRITE
from devstack.keeper.notes import note
from devstack.keeper.places import remove_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from devstack.keeper.loop import Loop, Timer

BACKLOG = 64
MOST_DESCRIPTORS = 16
REST_SECONDS = 0.1
MOST_UNREAD = 256 << 20
"""A client that never reads its answers is let go before it eats the memory."""


class Connection:
    """One client; gives whole lines to `on_line` and its own end to `on_end`, once."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_line: Callable[[Connection, bytes], None],
        on_end: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._on_line = on_line
        self._on_end = on_end
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self.descriptors: list[int] = []
        """Received and not yet taken."""
        self.is_open = True
        self._is_heard = True
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._ready)

    def send(self, message: dict[str, object]) -> bool:
        """False when nobody is there any more."""
        if self.is_open:
            self._outgoing += protocol.encode(message)
            self._flush()
        return self.is_open and self._is_heard

    def take_descriptors(self, count: int) -> list[int]:
        """Those of one request; the requests after it may have been read with it, and have their own."""
        taken, self.descriptors = self.descriptors[:count], self.descriptors[count:]
        return taken

    def close(self) -> None:
        """Without telling anybody; what can be sent at once is sent."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.forget(self._socket.fileno())
        # a child that has not come to its exec holds the socket as well: closed here, it would stay open
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for descriptor in self.descriptors:
            os.close(descriptor)

    def _end(self) -> None:
        if self.is_open:
            self.close()
            self._on_end(self)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self.is_open and events & ~WRITE:
            self._receive()

    def _receive(self) -> None:
        room = socket.CMSG_SPACE(MOST_DESCRIPTORS * 4)
        try:
            data, ancillary, _, _ = self._socket.recvmsg(1 << 18, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) // 4 * 4])
                self.descriptors.extend(numbers)
        if not data or len(self._incoming) > protocol.LONGEST_LINE:
            self._end()
            return
        self._incoming += data
        if b"\n" not in data:
            return
        *lines, rest = bytes(self._incoming).split(b"\n")
        self._incoming = bytearray(rest)
        for line in lines:
            if self.is_open:
                self._on_line(self, line)

    def _flush(self) -> None:
        try:
            while self._outgoing:
                sent = self._socket.send(self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            if len(self._outgoing) > MOST_UNREAD:
                self._end()
                return
        except OSError:
            # the end is told by the reading side, which first hears what the client still said
            self._outgoing.clear()
            self._is_heard = False
        if self.is_open:
            events = READ | WRITE if self._outgoing else READ
            self._loop.change(self._socket.fileno(), events)


class Listener:
    """The listening socket, bound again when somebody removed its file."""

    def __init__(self, loop: Loop, path: str, on_connect: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._path = path
        self._on_connect = on_connect
        self._socket: socket.socket | None = None
        self._identity = (0, 0)
        self._rest: Timer | None = None
        """While there is nothing to take a client with."""
        self._has_told = False

    def bind(self) -> None:
        """The caller holds the keeper's lock: a file that is there belongs to nobody alive."""
        self.close()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        umask = os.umask(0o077)
        temporary = f"{self._path}.new"
        try:
            remove_file(temporary)
            listening.bind(temporary)
        finally:
            os.umask(umask)
        listening.listen(BACKLOG)
        listening.setblocking(False)
        os.rename(temporary, self._path)  # whoever finds the file finds somebody who listens
        status = os.lstat(self._path)
        self._identity = status.st_dev, status.st_ino
        self._socket = listening
        self._listen()

    @property
    def is_in_place(self) -> bool:
        """Whether the file at the path is still our socket."""
        try:
            status = os.lstat(self._path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def close(self) -> None:
        """Take no more clients, and remove the file if it is ours."""
        if self._socket is None:
            return
        if self._rest is not None:
            self._rest.cancel()
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self._socket = None
        if self.is_in_place:
            remove_file(self._path)

    def _listen(self) -> None:
        assert self._socket is not None
        self._loop.watch(self._socket.fileno(), READ, lambda _: self._accept())

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            check_room()
            accepted, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client went away
        except OSError as exc:
            self._pause(exc)
            return
        self._has_told = False
        _, uid, _ = peer_of(accepted)
        if uid != os.geteuid():
            note(f"refused a connection of uid {uid}")
            accepted.close()
            return
        self._on_connect(accepted)

    def _pause(self, exc: OSError) -> None:
        """No descriptor or no memory: who waits keeps the socket ready, so it is looked at now and then."""
        assert self._socket is not None
        if not self._has_told:
            self._has_told = True
            note(f"cannot take a client, it is tried again: {exc.strerror}")
        self._loop.forget(self._socket.fileno())
        self._rest = self._loop.after(REST_SECONDS, self._listen)


def peer_of(sock: socket.socket) -> tuple[int, int, int]:
    """Pid, uid and gid of the other side, as the kernel knows them."""
    size = struct.calcsize("iII")
    pid, uid, gid = struct.unpack(
        "iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return int(pid), int(uid), int(gid)
