"""Counting connections and finding listeners."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devstack.gateway.drain import count_connections, wait_drained
from devstack.gateway.listeners import listeners, listeners_among
from devstack.gateway.sockdiag import (
    NetlinkRefused,
    TcpState,
    tcp_sockets,
    tcp_sockets_by_file,
    tcp_sockets_by_netlink,
)


@pytest.mark.parametrize("ask", [tcp_sockets_by_netlink, tcp_sockets_by_file])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "127.88.3.2"])
def test_connections_to_a_port_are_counted_while_both_ends_live(ask, address: str) -> None:  # type: ignore[no-untyped-def] # either function
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        assert ask(TcpState.ESTABLISHED, port) == ()
        with socket.create_connection((address, port)):
            accepted, _ = server.accept()
            (found,) = ask(TcpState.ESTABLISHED, port)
            assert (found.address, found.port) == (address, port)
            accepted.close()
        assert ask(TcpState.ESTABLISHED, port) == ()
        (listening,) = ask(TcpState.LISTEN, port)
        assert listening.inode == os.fstat(server.fileno()).st_ino


def test_a_connection_by_ipv4_to_a_listener_on_every_address_counts() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            assert count_connections(port) == 1


def test_netlink_and_file_tell_the_same_listeners() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        by_netlink = {each.inode for each in tcp_sockets_by_netlink(TcpState.LISTEN)}
        by_file = {each.inode for each in tcp_sockets_by_file(TcpState.LISTEN)}

        # Others start and stop servers meanwhile: what both saw must be most of it.
        assert by_netlink & by_file


def test_where_netlink_is_refused_the_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel has no such netlink family: the same refusal as in a sandbox.
    monkeypatch.setattr("devstack.gateway.sockdiag._NETLINK_SOCK_DIAG", 31)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(NetlinkRefused):
            tcp_sockets_by_netlink(TcpState.LISTEN, port)
        assert len(tcp_sockets(TcpState.LISTEN, port)) == 1


def test_a_port_is_drained_when_its_last_connection_has_ended() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            client = socket.create_connection(("127.0.0.1", port))
            with server.accept()[0]:
                assert not await wait_drained(port, 0.2)

                asyncio.get_running_loop().call_later(0.1, client.close)

                assert await wait_drained(port, 10)

    asyncio.run(scenario())


def test_a_listener_is_named_with_the_process_that_holds_it() -> None:
    code = (
        "import socket,sys\n"
        "s = socket.create_server(('127.77.1.9', 0))\n"
        "print(s.getsockname()[1], flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            (found,) = listeners(port)
            assert (found.pid, found.address, found.port) == (process.pid, "127.77.1.9", port)
            assert found.name.startswith("python")
            assert found.since is not None
            assert abs(found.since - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
            assert str(found) == f"127.77.1.9:{port} of pid {process.pid} ({found.name})"
            assert listeners_among([process.pid]) == [found]
            assert listeners_among([process.pid], port) == [found]
            assert listeners_among([os.getpid()], port) == []
        finally:
            process.communicate()
    assert listeners(port) == []


def test_which_listener_hinders_which_address() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        (found,) = listeners(server.getsockname()[1])
        assert found.hinders("127.77.1.9")
    with socket.create_server(("127.0.0.1", 0)) as server:
        (found,) = listeners(server.getsockname()[1])
        assert found.hinders("127.0.0.1")
        assert not found.hinders("127.77.1.9")


def test_counting_is_fast_enough_to_do_often() -> None:
    """Netlink answers by the port; the file's length would show (a busy machine has thousands)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        times = []
        for _ in range(20):
            started = time.perf_counter()
            count_connections(port)
            times.append(time.perf_counter() - started)
    assert min(times) < 0.05
    assert Path("/proc/net/tcp").exists()
