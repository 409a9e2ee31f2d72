"""The clients' side of the control socket."""

import os
import socket

import pytest

from devstack.api.client import Client, Lost, Silent
from devstack.api.wire import PROTOCOL, encode


def test_an_answer_is_read_from_a_controller_that_has_gone_meanwhile() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    client = Client(ours)
    try:
        number = client.send("down")
        assert theirs.recv(4096)
        theirs.sendall(encode({"hello": {"protocol": PROTOCOL, "pid": os.getpid()}}))
        theirs.sendall(encode({"id": number, "end": {"exit_code": 0, "lines": []}}))
        theirs.close()

        assert client.greet().pid == os.getpid()
        assert client.wait()["end"] == {"exit_code": 0, "lines": []}
        with pytest.raises(Lost):
            client.wait()
    finally:
        client.close()


def test_who_does_not_answer_is_told_with_its_pid() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    client = Client(ours)
    try:
        client.limit(0.05)

        with pytest.raises(Silent, match=rf"the controller \(pid {os.getpid()}\) does not answer"):
            client.ask("status")
    finally:
        client.close()
        theirs.close()
