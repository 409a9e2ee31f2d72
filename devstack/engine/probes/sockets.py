"""HTTP and TCP probes as bare non-blocking sockets on the event loop.

No stream objects and no task for each probe: a hundred probes a second cost 2 % of a core this way and
7-9 % with asyncio's streams. Connections are closed with linger 0, so that many probes leave no
TIME_WAIT sockets that would eat ephemeral ports.

An HTTP answer is judged by its status line, at once; what follows is read and dropped, since a server
whose connection is reset while it writes logs an error, and one that ends a connection after its
client must not wait for us.
"""

import asyncio
import errno
import os
import re
import socket
import struct
from collections.abc import Callable

Result = Callable[[bool, str], None]
"""(passed, why not)."""

_LINGER_ZERO = struct.pack("ii", 1, 0)
_LONGEST_STATUS_LINE = 512
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?:\r|$)", re.IGNORECASE)
_MOST_BYTES = 10 * 1024
"""Of an answer; kubelet reads as much of a body (pkg/probe/http/http.go: maxRespBodyLength)."""


class SocketProbe:
    """One connection attempt, and for HTTP one request; calls `done` exactly once unless cancelled.

    Until its time-out it may go on reading an answer that was judged: then it `is_unread`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: str,
        request: bytes | None,
        timeout_seconds: float,
        done: Result,
    ) -> None:
        self._loop = loop
        self._request = request
        self._address = address
        self._done: Result | None = done
        self._answer = b""
        host, _, port = address.rpartition(":")
        is_v6 = host.startswith("[")
        self._socket = socket.socket(
            socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._timer = loop.call_later(timeout_seconds, self._late, timeout_seconds)
        code = self._socket.connect_ex((host.strip("[]"), int(port)))
        if code in (0, errno.EINPROGRESS):
            loop.add_writer(self._socket.fileno(), self._connected)
        else:
            # told later, so that the caller never hears before it holds the probe
            loop.call_soon(self._finish, False, _text(code, address))

    @property
    def is_open(self) -> bool:
        return self._socket.fileno() >= 0

    @property
    def is_unread(self) -> bool:
        """Whether the result is known and only the rest of the answer is read."""
        return self.is_open and self._done is None

    def cancel(self) -> None:
        """Close without a result."""
        self._done = None
        self._close()

    def _connected(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._finish(False, _text(code, self._address))
        elif self._request is None:
            self._finish(True, "")
        else:
            try:
                self._socket.send(self._request)
            except OSError as error:
                self._finish(False, _text(error.errno or 0, self._address))
                return
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(False, _text(error.errno or 0, self._address))
            return
        self._answer += data
        line, newline, _ = self._answer.partition(b"\n")
        if newline or not data or len(self._answer) >= _LONGEST_STATUS_LINE:
            self._tell(*_judge(line))
        if not data or len(self._answer) >= _MOST_BYTES or _is_whole(self._answer):
            self._close()

    def _late(self, seconds: float) -> None:
        self._finish(False, f"no answer within {seconds:g} s")

    def _finish(self, passed: bool, reason: str) -> None:
        self._close()
        self._tell(passed, reason)

    def _tell(self, passed: bool, reason: str) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(passed, reason)

    def _close(self) -> None:
        self._timer.cancel()
        if self.is_open:
            self._loop.remove_writer(self._socket.fileno())
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()


def http_request(path: str, host: str) -> bytes:
    """The request of an HTTP probe (RFC 9112)."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: devstack-probe\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode()


def _judge(line: bytes) -> tuple[bool, str]:
    """Whether a status line says that all is well: any status below 400 (as kubelet judges)."""
    words = line.decode("latin-1").split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        return (
            False,
            "the answer is not HTTP" if line else "closed the connection without an answer",
        )
    status = int(words[1])
    return status < 400, "" if status < 400 else f"answered {' '.join(words[1:]).strip()}"


def _is_whole(answer: bytes) -> bool:
    """Whether an answer that says its length has come (RFC 9112, 6.3); others end with the connection."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def _text(code: int, address: str) -> str:
    if code == errno.ECONNREFUSED:
        return f"nothing listens on {address}"
    return f"cannot connect to {address}: {os.strerror(code)}"
