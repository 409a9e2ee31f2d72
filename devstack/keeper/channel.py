"""The controller's end of its connection to the keeper: requests out, answers matched, events in.

No stream objects: descriptors must travel with a request, and a lost keeper must be an event and not
an exception in whatever happened to be reading. What the messages mean, `client` knows.
"""

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from devstack.keeper import protocol
from devstack.keeper.errors import KeeperUnreachable

ANSWER_SECONDS = 30.0
"""A keeper that says nothing for so long is stopped or hangs; one that waits for a disk does not."""


class Channel:
    """One connected socket that does not block; `on_event` hears of each message that answers nothing."""

    def __init__(
        self, sock: socket.socket, on_event: Callable[[Mapping[str, object]], None]
    ) -> None:
        self._socket = sock
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._incoming = bytearray()
        self._outgoing: deque[tuple[bytearray, list[int]]] = deque()
        self._answers: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._last_request = 0
        self.closed = asyncio.Event()
        """Set when the keeper is gone (its processes with it) or `close` was called."""
        self._loop.add_reader(sock.fileno(), self._receive)

    async def ask(
        self, verb: str, fields: Mapping[str, object], descriptors: Sequence[int] = ()
    ) -> dict[str, object]:
        """The answer to a request, whatever it says. Raises `KeeperUnreachable`."""
        if self.closed.is_set():
            raise KeeperUnreachable("the keeper is gone")
        self._last_request += 1
        number = self._last_request
        future: asyncio.Future[dict[str, object]] = self._loop.create_future()
        self._answers[number] = future
        line = protocol.encode({"id": number, "verb": verb, **fields})
        self._outgoing.append((bytearray(line), [os.dup(fd) for fd in descriptors]))
        self._send()
        try:
            return await self._await_answer(future, verb)
        finally:
            self._answers.pop(number, None)

    def close(self) -> None:
        self._lose("the keeper is gone")

    def _lose(self, why: str) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for future in self._answers.values():
            if not future.done():
                future.set_exception(KeeperUnreachable(why))
                future.exception()  # who waited may have been cancelled meanwhile
        self._answers.clear()
        for _, descriptors in self._outgoing:
            _close_all(descriptors)
        self._outgoing.clear()

    async def _await_answer(
        self, future: asyncio.Future[dict[str, object]], verb: str
    ) -> dict[str, object]:
        """A program may be slow to start, but then the keeper answers what it knows.

        One that does not is given up as if it had died: it ends what it runs, or finds a new
        controller, once it goes on and sees that the connection is gone.
        """
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await asyncio.shield(future)
            except TimeoutError:
                if future.done():
                    continue  # it was this process that stood still, not the keeper
                if verb == protocol.LIST:
                    self._lose("the keeper does not answer")
                else:
                    await self.ask(protocol.LIST, {})

    def _send(self) -> None:
        try:
            while self._outgoing:
                data, descriptors = self._outgoing[0]
                if descriptors:
                    rights = array.array("i", descriptors)
                    sent = self._socket.sendmsg(
                        [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                    )
                    _close_all(descriptors)
                    descriptors.clear()
                else:
                    sent = self._socket.send(data)
                del data[:sent]
                if not data:
                    self._outgoing.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._send)
            return
        except OSError:
            self.close()
            return
        self._loop.remove_writer(self._socket.fileno())

    def _receive(self) -> None:
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._incoming += data
        if b"\n" not in data:
            return
        *lines, rest = bytes(self._incoming).split(b"\n")
        self._incoming = bytearray(rest)
        for line in lines:
            self._take(protocol.decode(line))

    def _take(self, message: dict[str, object]) -> None:
        if "event" in message:
            self._on_event(message)
            return
        number = message.get("id")
        assert isinstance(number, int)
        future = self._answers.get(number)
        if future is not None and not future.done():
            future.set_result(message)


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
