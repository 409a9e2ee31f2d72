"""NATS for real: its store, server, and questions in its own protocol."""

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from devstack.engines.base import DataVersionMismatch, EngineSpec, NotReady
from devstack.engines.nats import Nats
from devstack.provision.tool import Tool
from tests.engines.conftest import Workshop
from tests.support.engines import Server, free_port, running

ENGINE = Nats()
SPEC = EngineSpec(service="nats", engine="nats", jetstream=True)
GUARDED = replace(SPEC, user="shop", password='pa"ss $word')


@pytest.fixture
def tool(tool_of: Callable[[str], Tool]) -> Tool:
    return tool_of("nats")


def jetstream(server: Server, subject: str, request: object) -> dict[str, object]:
    """One request and its answer, without a client library."""
    body = json.dumps(request).encode() if request is not None else b""
    with socket.create_connection((server.address, server.port), 5) as connection:
        answers = connection.makefile("rb")
        answers.readline()
        connection.sendall(
            b'CONNECT {"verbose":false}\r\nSUB _INBOX.1 1\r\n'
            + f"PUB {subject} _INBOX.1 {len(body)}\r\n".encode()
            + body
            + b"\r\n"
        )
        # a server that takes a moment asks for a sign of life first
        message = next(line for line in answers if line.startswith(b"MSG "))
        size = int(message.split()[-1])
        answer = json.loads(answers.read(size))
        answers.close()
    assert isinstance(answer, dict)
    assert "error" not in answer, answer
    return answer


def test_a_broker_serves_only_where_it_is_told_and_stops_cleanly(
    workshop: Workshop, tool: Tool
) -> None:
    folder = workshop.prepare(ENGINE, SPEC, tool)
    with running(ENGINE, SPEC, folder, workshop.unprivileged, "127.64.3.8") as server:
        listeners = server.listeners()
        code = server.stop()

    assert listeners == {("127.64.3.8", server.port)}
    assert code in (0, 1)  # older ones end with 1 on TERM
    assert ENGINE.url(SPEC, "nats", 4222) == "nats://nats:4222"


def test_an_acknowledged_message_survives_a_kill(workshop: Workshop, tool: Tool) -> None:
    folder = workshop.prepare(ENGINE, SPEC, tool)
    with running(ENGINE, SPEC, folder, workshop.unprivileged) as server:
        jetstream(server, "$JS.API.STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
        for _ in range(10):
            jetstream(server, "s.one", {})
        server.kill()
    again = workshop.prepare(ENGINE, SPEC, tool)
    with running(ENGINE, SPEC, again, workshop.unprivileged) as server:
        state = jetstream(server, "$JS.API.STREAM.INFO.S", None)["state"]

    assert isinstance(state, dict)
    assert state["messages"] == 10
    assert again.data_id == folder.data_id
    assert (folder.is_new, again.is_new) == (True, False)


def test_a_user_is_asked_for_and_the_password_stands_in_no_argument(
    workshop: Workshop, tool: Tool
) -> None:
    folder = workshop.prepare(ENGINE, GUARDED, tool)
    command = ENGINE.command(GUARDED, folder, "127.0.0.1", 4222)
    with running(ENGINE, GUARDED, folder, workshop.unprivileged) as server:
        for wrong in (SPEC, replace(GUARDED, password="no")):
            with pytest.raises(NotReady, match="Authorization Violation"):
                ENGINE.query(wrong, server.address, server.port, 20.0)

    assert not [word for word in command.argv if GUARDED.password in word]
    assert (folder.run / "nats.conf").stat().st_mode & 0o777 == 0o600
    assert ENGINE.url(GUARDED, "nats", 1) == "nats://shop:pa%22ss%20%24word@nats:1"


def test_a_server_without_jetstream_is_not_ready_where_it_is_wanted(
    workshop: Workshop, tool: Tool
) -> None:
    plain = replace(SPEC, jetstream=False)
    folder = workshop.prepare(ENGINE, plain, tool)
    with (
        running(ENGINE, plain, folder, workshop.unprivileged) as server,
        pytest.raises(NotReady, match="without JetStream"),
    ):
        ENGINE.query(SPEC, server.address, server.port, 20.0)


@pytest.mark.parametrize(
    ("greeting", "said"),
    [(b"HTTP/1.1 400\r\n", "no NATS server"), (b"", "no NATS server"), (b"INFO {\r\n", "no NATS")],
)
def test_what_is_no_nats_is_not_ready(greeting: bytes, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def answer() -> None:
            connection, _ = stranger.accept()
            with connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NotReady, match=said):
            ENGINE.query(SPEC, "127.0.0.1", stranger.getsockname()[1], 20.0)
        thread.join()


def test_a_server_that_says_nothing_is_not_ready_in_time() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(NotReady, match="timed out"),
    ):
        ENGINE.query(SPEC, "127.0.0.1", silent.getsockname()[1], 0.2)
    with pytest.raises(NotReady, match="refused"):
        ENGINE.query(SPEC, "127.0.0.1", free_port(), 0.2)


def test_the_store_of_another_major_version_is_refused(workshop: Workshop, tool: Tool) -> None:
    workshop.prepare(ENGINE, SPEC, tool)
    with pytest.raises(DataVersionMismatch, match="made by NATS 2, and this is NATS 3"):
        workshop.prepare(ENGINE, SPEC, replace(tool, version="3.0.0"))
