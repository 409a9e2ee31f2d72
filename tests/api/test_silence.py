"""A controller that says nothing: asked for a sign of life, told, and given up."""

import contextlib
import fcntl
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.api import client as client_module
from devstack.api.client import Client, Silent, connect, has_keeper
from devstack.api.wire import PROTOCOL, decode, encode
from devstack.keeper.places import Places

HELLO = encode({"hello": {"protocol": PROTOCOL, "pid": 4242}})


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.04)
    monkeypatch.setattr(client_module, "SIGN_SECONDS", 0.02)
    monkeypatch.setattr(client_module, "GIVE_UP_SECONDS", 0.1)


@pytest.fixture
def line() -> Iterator[tuple[Client, socket.socket]]:
    """A client, and the controller's end of its connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        client = Client(ours)
        yield client, theirs
        client.close()


def test_who_takes_its_time_and_shows_that_it_lives_is_waited_for(
    line: tuple[Client, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SIGN_SECONDS", 2.0)  # which a busy machine has for a sign
    monkeypatch.setattr(client_module, "GIVE_UP_SECONDS", 20.0)
    client, theirs = line
    signs: list[int] = []

    def serve() -> None:
        with theirs.makefile("rwb", buffering=0) as file:
            file.write(HELLO)
            for message in map(decode, file):
                number = message.get("id")
                if message.get("do") == "ping":
                    assert isinstance(number, int)
                    signs.append(number)
                    file.write(encode({"id": number, "end": {"exit_code": 2}}))
                if len(signs) == 3:
                    file.write(encode({"id": 1, "end": {"exit_code": 0, "lines": ["done"]}}))
                    return

    serving = threading.Thread(target=serve)
    serving.start()
    told: list[Silent] = []
    client.wait_patiently(told.append)
    try:
        answer = client.ask("scale")
    finally:
        serving.join()

    assert (answer.exit_code, answer.lines) == (0, ["done"])
    assert told == []


def test_who_shows_no_sign_of_life_is_told_once_and_given_up(
    line: tuple[Client, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    # a client that slept through all of it gives up without a word
    monkeypatch.setattr(client_module, "GIVE_UP_SECONDS", 2.0)
    client, theirs = line
    theirs.sendall(HELLO)
    told: list[Silent] = []
    client.wait_patiently(told.append)

    with pytest.raises(Silent) as given_up:
        client.ask("scale")

    assert [silent.pid for silent in told] == [os.getpid()]
    assert str(given_up.value) == f"the controller (pid {os.getpid()}) does not answer"


def test_who_has_more_clients_waiting_than_it_can_have_is_silent(places: Places) -> None:
    Path(places.folder).mkdir()
    Path(places.controller_lock).write_text("1\n")  # of an earlier one, whose pid is another's now
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(places.control_socket)
        listener.listen(1)

        with pytest.raises(Silent) as unknown:
            connect_often(places, waiting)
        with open(places.controller_lock, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(Silent) as known:
                connect(places)

    assert (unknown.value.pid, known.value.pid) == (0, os.getpid())


def test_a_command_may_have_any_number_of_files_open(
    line: tuple[Client, socket.socket],
) -> None:
    """Its caller may leak them to it; select(2) takes no descriptor from 1024 on."""
    client, theirs = line
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        high = fcntl.fcntl(client.fileno(), fcntl.F_DUPFD_CLOEXEC, 2000)
        moved = Client(socket.socket(fileno=high))
        theirs.sendall(HELLO + encode({"id": 1, "end": {"exit_code": 0, "lines": ["done"]}}))
        moved.wait_patiently(lambda _: None)
        assert moved.ask("scale").lines == ["done"]
        moved.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_keeper_that_takes_nobody_is_there_all_the_same(places: Places) -> None:
    Path(places.folder).mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(places.keeper_socket)
        listener.listen(1)

        assert all(has_keeper(places) for _ in range(10))
    assert not has_keeper(places)


def connect_often(places: Places, waiting: contextlib.ExitStack) -> None:
    for _ in range(10):
        client = connect(places)
        assert client is not None
        waiting.callback(client.close)
