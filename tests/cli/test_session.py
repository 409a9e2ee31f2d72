"""An `up` that is interrupted before it was told whose the stack is."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack.api.client import Client
from devstack.api.wire import PROTOCOL, decode, encode
from devstack.cli.screen import PlainScreen
from devstack.cli.session import Session
from devstack.keeper.places import Places

HELLO: dict[str, object] = {"hello": {"protocol": PROTOCOL, "pid": 4242}}


class Controller:
    """The other end of the connection: a thread that says what the test has it say."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")

    def hear(self, do: str) -> int:
        """The id of the next such request."""
        for line in self._lines:
            asked = decode(line)
            if asked.get("do") == do:
                return int(str(asked["id"]))
        raise AssertionError(f"nobody asked for {do}")

    def say(self, *messages: dict[str, object]) -> None:
        self._connection.sendall(b"".join(map(encode, messages)))

    def close(self) -> None:
        self._lines.close()
        self._connection.close()


@pytest.fixture
def line() -> Iterator[tuple[Client, Controller]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.settimeout(30)
    client, controller = Client(ours), Controller(theirs)
    yield client, controller
    client.close()
    controller.close()


def attached(client: Client, folder: Path, speak: Callable[[], None]) -> int:
    """The exit code of an `up` in the foreground, while its controller speaks in another thread."""
    session = Session(
        client,
        Places(str(folder)),
        PlainScreen("shop"),
        name="shop",
        detached=False,
        waits=False,
        timeout=60,
    )
    other = threading.Thread(target=speak)
    other.start()
    code = session.run({})
    other.join(30)
    return code


def test_ctrl_c_before_the_lease_is_told_ends_the_stack_in_order_and_says_so(
    line: tuple[Client, Controller], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, controller = line

    def speak() -> None:
        controller.say(HELLO)
        number = controller.hear("up")
        os.kill(os.getpid(), signal.SIGINT)
        controller.say({"id": number, "data": {"lease": True, "logs": str(tmp_path)}})
        controller.say({"id": controller.hear("down"), "end": {"exit_code": 0, "lines": []}})

    assert attached(client, tmp_path, speak) == 130

    told = capsys.readouterr().err
    assert "shop is stopped" in told
    assert "runs on" not in told


def test_a_second_signal_leaves_also_where_nobody_told_whose_the_stack_is(
    line: tuple[Client, Controller], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, controller = line

    def speak() -> None:
        controller.say(HELLO)
        controller.hear("up")
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # another one: two alike may come as one

    assert attached(client, tmp_path, speak) == 130

    assert "devstack status tells whether shop runs on" in capsys.readouterr().err
