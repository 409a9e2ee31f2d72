"""How the routing table in NGINX's shared memory is replaced and read: one request on its admin socket.

When `replace` returns, the next request of every connection sees the new table.
"""

import asyncio
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from devstack.gateway.wire import Entry, TableTooLarge, WireTable

_TIMEOUT_SECONDS = 2.0


class TableUnreachable(Exception):
    """NGINX does not answer on its admin socket."""


@dataclass(frozen=True, slots=True)
class TableNow:
    """What is in force."""

    generation: str
    entries: dict[str, Entry]


async def replace_table(admin_socket: Path, wire: WireTable) -> None:
    """Put `wire` in force; the old table stays if it does not fit (`TableTooLarge`)."""
    status, body = await _request(admin_socket, "PUT", wire.request)
    if status == 507:
        raise TableTooLarge(len(wire.request))
    if status != 200 or json.loads(body).get("generation") != wire.generation:
        raise TableUnreachable(
            f"cannot replace the routing table: NGINX answered {status} {body[:200]!r}"
        )


async def read_table(admin_socket: Path) -> TableNow:
    """The table that is in force."""
    status, body = await _request(admin_socket, "GET", b"")
    if status != 200:
        raise TableUnreachable(f"cannot read the routing table: NGINX answered {status}")
    told = json.loads(body)
    return TableNow(told["generation"], told["table"])


async def _request(admin_socket: Path, method: str, body: bytes) -> tuple[int, bytes]:
    head = (
        f"{method} /table HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            answer = await _exchange(admin_socket, head.encode() + body)
    except (OSError, TimeoutError) as exc:
        raise TableUnreachable(
            f"cannot reach the routing table at {admin_socket}: {str(exc) or 'no answer'}"
        ) from exc
    top, separator, content = answer.partition(b"\r\n\r\n")
    status = top.split(b" ", 2)[1:2]
    if not separator or not status or not status[0].isdigit():
        raise TableUnreachable(f"cannot reach the routing table: NGINX answered {answer[:100]!r}")
    if b"transfer-encoding: chunked" in top.lower():
        content = _joined(content)
    return int(status[0]), content


async def _exchange(admin_socket: Path, request: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    # By way of the folder's descriptor: a unix socket's path has room for 107 bytes only.
    folder = os.open(admin_socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as peer:
            await loop.sock_connect(peer, f"/proc/self/fd/{folder}/{admin_socket.name}")
            await loop.sock_sendall(peer, request)
            parts: list[bytes] = []
            while part := await loop.sock_recv(peer, 1 << 16):
                parts.append(part)
            return b"".join(parts)
    finally:
        os.close(folder)


def _joined(chunked: bytes) -> bytes:
    content, rest = b"", chunked
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            break
        content, rest = content + rest[:length], rest[length + 2 :]
    return content
