"""The control socket: who gets in, what is refused, and who waits for whom."""

import contextlib
import json
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.api import server as server_module
from devstack.api.client import Client, Lost, OtherProtocol
from devstack.api.control import Outcome, Told
from devstack.api.server import SocketTaken, bind_privately
from devstack.api.wire import LONGEST_LINE, MOST_REQUESTS, PROTOCOL
from devstack.cli.changes import ask_all
from devstack.core.plain import to_plain
from devstack.keeper.places import PlaceRefused, Places, remove_entry
from devstack.steps import Progress
from tests.api.scripted import STACK, running_state
from tests.api.served import PATIENCE, Served, open_client, serving
from tests.support.modes import watched_modes
from tests.support.processes import eventually

UP: dict[str, Any] = {"stack": to_plain(STACK), "environment": {"A": "1"}}


@pytest.fixture
def served(places: Places) -> Iterator[Served]:
    with serving(places) as served:
        yield served


@pytest.fixture
def running(served: Served) -> Served:
    """With a stack applied."""
    served.call(lambda: setattr(served.control, "state", running_state()))
    return served


def client_of(served: Served) -> Client:
    client = open_client(served.places)
    assert client is not None
    return client


def raw(served: Served, *lines: bytes) -> list[dict[str, object]]:
    """What the server says to bytes, until it closes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(served.places.control_socket)
        data = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(b"".join(lines))
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                data += piece
    return [json.loads(line) for line in data.splitlines()]


def tell(served: Served, told: Iterable[Told]) -> None:
    """Let all of it happen at once."""

    def put() -> None:
        for one in told:
            served.control.told.put_nowait(one)

    served.call(put)


HELLO = json.dumps({"hello": {"protocol": PROTOCOL, "version": "9"}}).encode() + b"\n"


class TestWhoGetsIn:
    def test_k02_the_socket_is_never_open_to_others(
        self, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        modes: list[tuple[str, int]] = []
        before = os.umask(0)
        try:
            with serving(places):
                path = places.control_socket
                modes.append(("socket", os.stat(path).st_mode))
                modes.append(("folder", os.stat(places.folder).st_mode))
                assert os.listdir(places.folder) == ["control.sock"]
        finally:
            assert os.umask(before) == 0, "the umask is as it was"
        assert [(what, stat.S_IMODE(mode)) for what, mode in modes] == [
            ("socket", 0o700),
            ("folder", 0o700),
        ]

    def test_k02_the_mode_is_right_at_the_moment_of_binding(self, tmp_path: Path) -> None:
        with watched_modes(tmp_path) as seen:
            bind_privately(str(tmp_path / "s")).close()

        assert len(seen.made) == 1
        assert seen.changed == []
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700

    def test_k01_a_peer_of_another_uid_is_closed_and_logged(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(server_module, "peer_of", lambda _: (4242, os.geteuid() + 1))

        assert raw(served, HELLO) == []
        assert f"refused a connection of uid {os.geteuid() + 1} (pid 4242)" in caplog.text

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_k01_another_user_cannot_even_connect(self, served: Served) -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                socket.socket(socket.AF_UNIX).connect(served.places.control_socket)
            except PermissionError:
                code = 0
            finally:
                os._exit(code)

        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def test_k01_the_peer_is_who_connected(self, served: Served) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(served.places.control_socket)
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        assert struct.unpack("3i", peer)[1] == os.geteuid()

    def test_k03_a_run_folder_that_is_a_symlink_is_refused(self, places: Places) -> None:
        os.mkdir(places.folder + "-real", 0o700)
        os.symlink(places.folder + "-real", places.folder)

        with pytest.raises(ExceptionGroup) as refused, serving(places):
            pass
        assert refused.group_contains(PlaceRefused, match="it is a symlink")

    def test_k03_a_run_folder_open_to_others_is_refused(self, places: Places) -> None:
        os.mkdir(places.folder)
        os.chmod(places.folder, 0o777)

        with pytest.raises(ExceptionGroup) as refused, serving(places):
            pass
        assert refused.group_contains(PlaceRefused, match="its mode is 0777, not 0700")


class TestTheSocket:
    def test_i03_a_live_socket_is_never_replaced(self, served: Served) -> None:
        before = os.stat(served.places.control_socket).st_ino

        with pytest.raises(ExceptionGroup) as refused, serving(served.places):
            pass

        assert refused.group_contains(SocketTaken)
        assert os.stat(served.places.control_socket).st_ino == before
        assert client_of(served).greet().pid == os.getpid()

    def test_i02_a_stale_socket_is_no_obstacle(self, places: Places) -> None:
        os.mkdir(places.folder, 0o700)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(places.control_socket)
        assert open_client(places) is None

        with serving(places) as served:
            assert client_of(served).greet().protocol == PROTOCOL

    def test_a_removed_socket_is_bound_again(
        self, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "LOOK_EVERY_SECONDS", 0.02)
        with serving(places) as served:
            old = client_of(served)
            os.unlink(places.control_socket)

            new = eventually(lambda: open_client(places))

            assert new is not None
            assert new.greet().pid == os.getpid()
            assert old.ask("status").exit_code == 0, "connections that were open stay"

    def test_a_cleaned_run_folder_is_made_again(
        self, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "LOOK_EVERY_SECONDS", 0.02)
        with serving(places):
            os.rename(places.folder, f"{places.folder}-gone")  # whole: it may be watched just now

            client = eventually(lambda: open_client(places))

            assert client is not None
            assert client.greet().pid == os.getpid()
            assert stat.S_IMODE(os.stat(places.folder).st_mode) == 0o700

    def test_a_place_that_cannot_be_had_for_a_while_ends_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The parent of the run folders is gone, as `$XDG_RUNTIME_DIR` after a logout."""
        monkeypatch.setattr(server_module, "LOOK_EVERY_SECONDS", 0.01)
        parent, away = tmp_path / "u", tmp_path / "v"
        parent.mkdir(mode=0o700)
        places = Places(str(parent / "d" / "0123456789"))
        with serving(places) as served:
            parent.rename(away)
            eventually(lambda: "cannot keep the control socket: cannot make" in caplog.text)
            assert open_client(places) is None

            away.rename(parent)
            eventually(lambda: open_client(places) is not None)
            assert client_of(served).ask("status").exit_code == 0

    def test_an_entry_that_cannot_be_written_for_a_while_ends_nothing(
        self, running: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        entry = Path(running.places.entry)

        def put_a_folder_there() -> None:
            entry.unlink(missing_ok=True)
            entry.mkdir()

        running.call(put_a_folder_there)
        running.call(lambda: setattr(running.control, "gateway_url", lambda: None))
        assert client_of(running).ask("up", **UP).exit_code == 0
        eventually(lambda: "cannot keep the entry" in caplog.text)

        entry.rmdir()
        eventually(entry.is_file)
        assert client_of(running).ask("status").exit_code == 0

    def test_nothing_is_left_after_the_end(self, places: Places) -> None:
        with serving(places) as served:
            served.call(lambda: setattr(served.control, "state", running_state()))
        assert os.listdir(places.folder) == []

    def test_nothing_is_left_once_a_client_sees_the_end(
        self, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`devstack down` returns then, and `devstack ls` after it lists the stack no more."""

        def slowly(places: Places) -> None:
            time.sleep(0.2)
            remove_entry(places)

        monkeypatch.setattr(server_module, "remove_entry", slowly)
        with serving(places) as served:
            served.call(lambda: setattr(served.control, "state", running_state()))
            client = client_of(served)
            client.greet()
            ending = threading.Thread(target=served.close)
            ending.start()
            with pytest.raises(Lost):
                client.wait()
            left = os.listdir(places.folder)
            ending.join()
        assert left == []

    def test_the_entry_of_ls_is_kept_while_it_runs(
        self, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "LOOK_EVERY_SECONDS", 0.02)
        with serving(places) as served:
            served.call(lambda: setattr(served.control, "state", running_state()))
            eventually(lambda: os.path.exists(places.entry))
            os.unlink(places.entry)
            eventually(lambda: os.path.exists(places.entry))
            entry = json.loads(Path(places.entry).read_text())
        assert entry["folder"] == "/somewhere/shop"
        assert entry["ports"] == [{"service": "api", "url": "http://127.64.1.2:8080/#api"}]

    def test_a_controller_that_nobody_gave_a_stack_ends(
        self, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "LOOK_EVERY_SECONDS", 0.02)
        monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.1)
        with serving(places) as served:
            eventually(lambda: "down" in served.control.calls)


class TestMalformedRequests:
    @pytest.mark.parametrize(
        ("line", "says"),
        [
            (b"nonsense\n", "it is not JSON"),
            (b"[1]\n", "it is not an object"),
            (b'{"id": 1}\n', "a request needs 'id' and 'do'"),
            (b'{"id": true, "do": "status"}\n', "a request needs 'id' and 'do'"),
            (b"[" * 100_000 + b"\n", "it is not JSON"),
        ],
    )
    def test_what_is_no_request_is_told_and_closed(
        self, running: Served, line: bytes, says: str
    ) -> None:
        _, end = raw(running, HELLO, line)
        assert end["end"] == {
            "exit_code": 2,
            "lines": [f"cannot understand the request: {says}"],
        }

    @pytest.mark.parametrize(
        "request_",
        [
            {"do": "burn"},
            {"do": "scale", "service": "api", "replicas": -1},
            {"do": "scale", "service": "api", "replicas": 1.5},
            {"do": "scale", "service": 3},
            {"do": "scale", "service": "api", "replicas": 1, "timeout": "soon"},
            UP | {"do": "up", "environment": {"A": 1}},
            {"do": "up", "environment": {"A": "1"}},
            UP | {"do": "up", "stack": UP["stack"] | {"name": 3}},
            UP | {"do": "up", "stack": UP["stack"] | {"services": {"a": {"type": "Stack"}}}},
            {"do": "status", "json": "yes"},
        ],
    )
    def test_an_argument_that_makes_no_sense_ends_the_request_alone(
        self, running: Served, request_: dict[str, Any]
    ) -> None:
        client = client_of(running)
        answer = client.ask(str(request_.pop("do")), **request_)
        assert answer.exit_code == 2
        assert answer.lines[0].startswith("cannot do what was asked: ")
        assert client.ask("status").exit_code == 0

    def test_the_first_message_must_be_hello(self, running: Served) -> None:
        _, end = raw(running, b'{"id": 1, "do": "status"}\n')
        assert "the first message must be hello" in str(end)

    def test_a_huge_request_is_refused_and_the_others_go_on(self, running: Served) -> None:
        client = client_of(running)
        huge = client_of(running)
        huge.greet()
        with pytest.raises(Lost):
            huge.ask("up", stack="x" * (LONGEST_LINE * 3))
        assert client.ask("status").exit_code == 0

    def test_a_whole_environment_passes_byte_for_byte(self, served: Served) -> None:
        environment = {"BIG": "x" * (2 << 20), "ODD": "caf\udce9", "LINES": "a\nb"}
        answer = client_of(served).ask("up", **UP | {"environment": environment})
        assert answer.exit_code == 0
        assert dict(served.control.requests[0].environment) == environment
        assert served.control.requests[0].stack == STACK

    def test_too_many_requests_at_once_are_refused(self, running: Served) -> None:
        client = client_of(running)
        numbers = [client.send("scale", service="api", replicas=2) for _ in range(100)]
        client.greet()
        refused = [m for m in (client.wait() for _ in range(36)) if "end" in m]
        assert len(refused) == 36
        assert all("are under way" in str(m) for m in refused)
        running.call(running.control.may_scale.set)
        ends = [client.wait()["id"] for _ in range(len(numbers) - 36)]
        assert len(set(ends)) == 64

    def test_an_unknown_service_is_told_with_the_nearest_one(self, running: Served) -> None:
        answer = client_of(running).ask("why", service="apy")
        assert (answer.exit_code, answer.lines) == (
            2,
            ["there is no service 'apy' (did you mean 'api'?)", "hint: there are api, db"],
        )

    def test_only_a_database_can_be_reset(self, running: Served) -> None:
        answer = client_of(running).ask("reset", service="api")
        assert answer.exit_code == 2
        assert answer.lines[0] == "cannot reset api: it is a service, not a database"
        assert client_of(running).ask("reset", service="db").exit_code == 0


class TestProtocols:
    def test_another_protocol_is_told_in_one_line_that_offers_down(self, running: Served) -> None:
        other = json.dumps({"hello": {"protocol": 99, "version": "9"}}).encode() + b"\n"
        hello, end = raw(running, other, b'{"id": 1, "do": "status"}\n')
        assert hello["hello"]["protocol"] == PROTOCOL  # type: ignore[index]  # JSON: a wrong shape fails the test
        assert "devstack down" in str(end)

    def test_down_is_understood_in_every_protocol(self, running: Served) -> None:
        other = json.dumps({"hello": {"protocol": 99, "version": "9"}}).encode() + b"\n"
        raw(running, other, b'{"id": 1, "do": "down"}\n')
        eventually(lambda: "down" in running.control.calls)

    def test_a_client_says_what_to_do_about_another_protocol(
        self, running: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "PROTOCOL", 99)
        client = client_of(running)
        with pytest.raises(OtherProtocol, match="protocol 99") as other:
            client.ask("status")
        assert "devstack down" in other.value.hint


class TestSideBySide:
    def test_a_reader_that_stands_still_holds_up_nobody(self, running: Served) -> None:
        stalled = client_of(running)
        stalled.send("follow")
        eventually(lambda: "follow" in running.control.calls)
        lines = [Told("api", "x" * 1000) for _ in range(5000)]
        tell(running, lines)
        eventually(running.control.told.empty)

        assert client_of(running).ask("status").exit_code == 0
        running.call(running.control.finish)
        stalled.greet()
        texts: list[str] = []
        while "end" not in (message := stalled.wait()):
            texts.append(message["data"]["told"]["text"])  # type: ignore[index]  # JSON: a wrong shape fails the test
        assert len(texts) < 3000, "what is kept for a slow reader is bounded"
        assert any("messages were left out: this client was too slow" in text for text in texts)

    def test_only_the_newest_state_of_a_progress_is_kept(self, running: Served) -> None:
        stalled = client_of(running)
        stalled.send("follow")
        eventually(lambda: "follow" in running.control.calls)
        told = [Told("api", "", progress=Progress("fetch", n, 9999)) for n in range(10_000)]
        tell(running, told)
        running.call(running.control.finish)
        stalled.greet()
        shown: list[float] = []
        while "end" not in (message := stalled.wait()):
            shown.append(message["data"]["told"]["progress"]["done"])  # type: ignore[index]  # JSON: a wrong shape fails the test
        assert shown[-1] == 9999
        assert shown == sorted(shown)
        assert len(shown) < 5000

    def test_requests_of_one_connection_do_not_wait_for_each_other(self, running: Served) -> None:
        client = client_of(running)
        slow = client.send("scale", service="api", replicas=3)
        assert client.ask("status").exit_code == 0
        running.call(running.control.may_scale.set)
        assert client.wait()["id"] == slow

    def test_a_command_that_names_more_than_are_taken_at_once_asks_in_turns(
        self, running: Served, capsys: pytest.CaptureFixture[str]
    ) -> None:
        requests = [("scale", {"service": "api", "replicas": n}) for n in range(150)]
        codes: list[int] = []

        def scaled() -> int:
            return sum(call.startswith("scale") for call in running.control.calls)

        asking = threading.Thread(
            target=lambda: codes.append(ask_all(client_of(running), requests))
        )
        asking.start()
        eventually(lambda: scaled() >= MOST_REQUESTS // 2)
        running.call(running.control.may_scale.set)
        asking.join(60)

        assert codes == [0]
        assert scaled() == 150
        assert len(capsys.readouterr().out.splitlines()) == 150

    def test_a_client_that_leaves_ends_what_only_it_waited_for(self, running: Served) -> None:
        client = client_of(running)
        client.send("scale", service="api", replicas=3)
        eventually(lambda: "scale api 3 True" in running.control.calls)
        client.close()
        with serving_nothing(running):
            pass

    def test_a_bug_in_a_request_ends_the_controller_loudly(self, places: Places) -> None:
        with pytest.raises(ExceptionGroup) as group, serving(places) as served:  # noqa: PT012 - the whole life of a server
            served.call(lambda: setattr(served.control, "state", running_state()))
            served.call(lambda: setattr(served.control, "bug", ZeroDivisionError("a bug")))
            with pytest.raises(Lost):
                client_of(served).ask("scale", service="api", replicas=2, no_wait=True)
            served.join()
        assert group.group_contains(ZeroDivisionError, match="a bug", depth=1)


class serving_nothing:  # noqa: N801 - reads as a word in `with`
    """Waits until a server has no request under way."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def __enter__(self) -> None:
        eventually(lambda: not self._served.server._connections)

    def __exit__(self, *_: object) -> None:
        return None


class TestTheLease:
    def test_the_first_up_gets_it_and_the_second_only_follows(self, served: Served) -> None:
        first, second = client_of(served), client_of(served)
        got: list[object] = []
        first.ask("up", got.append, **UP, lease=True)
        second.ask("up", got.append, **UP, lease=True)
        assert [data["lease"] for data in got if isinstance(data, dict)] == [True, False]
        assert served.control.calls.count("hold_lease") == 1
        assert "detach" not in served.control.calls

    def test_a_client_that_dies_loses_it(self, served: Served) -> None:
        client = client_of(served)
        client.ask("up", **UP, lease=True)
        client.close()
        eventually(lambda: "lease lost" in served.control.calls)

    def test_one_that_asked_for_the_end_releases_it(self, served: Served) -> None:
        client = client_of(served)
        client.ask("up", **UP, lease=True)
        client.ask("down")
        client.close()
        eventually(lambda: "lease released" in served.control.calls)

    def test_a_detached_up_never_takes_it(self, served: Served) -> None:
        client = client_of(served)
        client.ask("up", **UP)
        client.close()
        with serving_nothing(served):
            pass
        assert served.control.calls == ["detach", "up"]

    def test_a_detached_up_never_ends_it(self, served: Served) -> None:
        holder = client_of(served)
        holder.ask("up", **UP, lease=True)
        client_of(served).ask("up", **UP)
        assert "detach" not in served.control.calls

    def test_where_no_stack_came_to_be_the_controller_ends(self, served: Served) -> None:
        outcome = Outcome(2, ("stack.yaml:1:1: bad",))
        served.call(lambda: setattr(served.control, "up_outcome", outcome))
        answer = client_of(served).ask("up", **UP, lease=True)
        assert (answer.exit_code, answer.lines) == (2, ["stack.yaml:1:1: bad"])
        assert served.control.calls[-1] == "down"

    def test_a_bad_file_changes_nothing_of_a_running_stack(self, running: Served) -> None:
        running.call(lambda: setattr(running.control, "up_outcome", Outcome(2, ("bad",))))
        assert client_of(running).ask("up", **UP).exit_code == 2
        assert "down" not in running.control.calls


class TestTheEnd:
    def test_a_waiting_client_hears_that_the_stack_was_stopped(self, places: Places) -> None:
        with serving(places) as served:
            served.call(lambda: setattr(served.control, "state", running_state()))
            client = client_of(served)
            client.send("scale", service="api", replicas=3)
            client.greet()
            eventually(lambda: "scale api 3 True" in served.control.calls)
        end = client.wait()["end"]
        assert end == {"exit_code": 1, "lines": ["cannot wait any longer: the stack was stopped"]}
        with pytest.raises(Lost):
            client.wait()

    def test_a05_down_tells_what_still_runs_with_a_countdown(self, running: Served) -> None:
        from dataclasses import replace

        from devstack.core.state import Phase

        control = running.control
        stopping = replace(control.state.replicas["api.1#7"], phase=Phase.STOPPING)
        state = replace(control.state, replicas={"api.1#7": stopping})
        running.call(lambda: setattr(control, "state", state))
        running.call(control.may_end.clear)
        client = client_of(running)
        client.send("down")
        client.greet()
        seen: list[Any] = []
        while len(seen) < 2:
            seen.append(client.wait()["data"]["stopping"])  # type: ignore[index]  # JSON: a wrong shape fails the test
        ((name, first),), ((same, second),) = seen
        assert (name, first, same) == ("api.1#7", 10, "api.1#7")
        assert 0 < second < 10, "9, unless this machine stood still"
        client.send("kill")
        eventually(lambda: "kill" in control.calls)
        running.call(control.may_end.set)

    def test_down_goes_on_when_its_client_is_gone(self, running: Served) -> None:
        running.call(running.control.may_end.clear)
        client = client_of(running)
        client.send("down", volumes=True)
        eventually(lambda: "down with volumes" in running.control.calls)
        client.close()
        with serving_nothing(running):
            pass
        running.call(running.control.may_end.set)

    def test_down_that_removes_data_is_answered_however_long_that_takes(
        self, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The stack has ended by then, and the controller is about to."""
        monkeypatch.setattr(server_module, "LAST_WORDS_SECONDS", 0.0)
        with serving(places) as served:
            served.call(lambda: setattr(served.control, "state", running_state()))
            served.call(served.control.may_end.clear)
            client = client_of(served)
            number = client.send("down", volumes=True)
            eventually(lambda: "down with volumes" in served.control.calls)

            served.begin_to_close()
            for _ in range(20):
                assert client_of(served).ask("status").exit_code == 0
            served.call(served.control.may_end.set)

            while "end" not in (told := client.wait()):
                assert told["id"] == number
            assert told["end"] == {"exit_code": 0, "lines": ["stopped 2 services"]}
            with pytest.raises(Lost):
                client.wait()

    def test_a_newer_client_replaces_the_controller_and_the_lease_goes_along(
        self, places: Places
    ) -> None:
        with serving(places) as old:
            holder = client_of(old)
            holder.ask("up", **UP, lease=True)
            assert client_of(old).ask("leave").exit_code == 0
            assert old.control.calls[-1] == "leave"
        assert holder.wait() == {"left": True}
        with pytest.raises(Lost):
            holder.wait()
        assert "lease lost" not in old.control.calls
        with serving(places) as new:
            assert client_of(new).ask("lease").exit_code == 0
            assert "hold_lease" in new.control.calls
