"""Whether an address can be listened on; which port a replica gets; whose fault it was when it did not."""

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from devstack.core.events import (
    Artifact,
    Exit,
    PrepareStarted,
    PrepareSucceeded,
    ReadinessChanged,
    ReplicaSpawned,
    ReplicaStartRequested,
    ReplicaStopRequested,
    StackApplied,
)
from devstack.core.model import Endpoint
from devstack.core.reduce import reduce
from devstack.core.state import State
from devstack.core.template import parse_template
from devstack.engine.endings import MOST_PICKS, Endings
from devstack.engine.ports import Bindable, are_free, ephemeral_ports, is_free, try_bind
from devstack.engine.surroundings import StackSurroundings
from devstack.engine.tails import last_lines
from devstack.logs.writer import LogWriter
from devstack.runtimes.base import ReplicaEnd
from devstack.runtimes.process.programs import CannotLaunch
from tests.engine.kit import book_of, database, identity_here, service, stack_of

MAIN = Endpoint("main", 8080)
WEB = service("web", MAIN)


@contextmanager
def listening(port: int, address: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.create_server((address, port)) as server:
        yield server


def surroundings(folder: Path) -> StackSurroundings:
    stack = stack_of(WEB, service("worker"), database("db"))
    book = book_of(folder, identity_here())
    book.assign(stack)
    return StackSurroundings(book, stack, {"PATH": "/bin", "DEVSTACK_RUN": "x", "LANG": "C"})


def numbers(found: StackSurroundings) -> list[int]:
    ((_, ports),) = found.book.slot_ports(WEB, 1)
    return list(ports)


# ── bindable ──────────────────────────────────────────────────────────────────────────────────


def test_a_listener_makes_a_port_busy_and_a_wildcard_one_everywhere() -> None:
    with listening(0, "0.0.0.0") as server:
        port = server.getsockname()[1]
        assert try_bind("127.0.0.1", port) is Bindable.BUSY
        assert try_bind("127.101.77.9", port) is Bindable.BUSY
    assert is_free(port)


def test_a_port_in_time_wait_is_free() -> None:
    with listening(0) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first waits

    assert is_free(port)


def test_an_address_of_another_machine_is_absent() -> None:
    assert try_bind("192.0.2.1", 0) is Bindable.ABSENT


def test_a_low_port_is_forbidden_to_an_ordinary_user() -> None:
    floor = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if os.getuid() == 0 or floor <= 1:
        pytest.skip("whoever runs the tests may bind every port")
    assert try_bind("127.0.0.1", 1) is Bindable.FORBIDDEN


def test_c05_the_ephemeral_range_is_the_one_that_the_system_has_now(tmp_path: Path) -> None:
    setting = tmp_path / "ip_local_port_range"
    setting.write_text("15000\t61000\n")

    assert ephemeral_ports(setting) == range(15000, 61001)
    assert ephemeral_ports(tmp_path / "none") == range(32768, 61000)
    low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert ephemeral_ports() == range(int(low), int(high) + 1)


@pytest.mark.parametrize("ports", [range(15000, 15512), range(14999, 15511), range(16, 60000)])
def test_c05_ports_that_an_outgoing_connection_may_take_are_not_free(ports: range) -> None:
    assert not are_free("127.101.77", ports, ephemeral=range(15000, 15512))


def test_c05_ports_that_nobody_has_are_free_beside_the_ephemeral_range() -> None:
    with listening(0) as server:
        port = server.getsockname()[1]
        assert not are_free("127.101.77", range(port, port + 1), ephemeral=range(port + 1, 65536))

    assert are_free("127.101.77", range(port, port + 1), ephemeral=range(port + 1, 65536))
    assert are_free("127.101.77", range(port, port + 1), ephemeral=range(1024, port))


# ── ports of a replica ────────────────────────────────────────────────────────────────────────


def test_a_new_replica_takes_the_first_port_on_which_nothing_listens(tmp_path: Path) -> None:
    found = surroundings(tmp_path)
    first, second, *_ = numbers(found)
    with listening(first):
        assert found.ports_for("web.1#1", WEB, 1) == {"main": second}


def test_old_and_new_replicas_of_a_slot_coexist_until_all_four_are_taken(tmp_path: Path) -> None:
    found = surroundings(tmp_path)
    given = [found.ports_for(f"web.1#{n}", WEB, 1)["main"] for n in range(1, 5)]
    assert given == numbers(found)

    with pytest.raises(CannotLaunch, match="all ports of its slot are in use") as refused:
        found.ports_for("web.1#5", WEB, 1)
    assert not refused.value.permanent

    found.release_ports("web.1#2")
    assert found.ports_for("web.1#5", WEB, 1) == {"main": given[1]}


def test_a_service_for_which_no_ports_are_left_is_told_so_and_what_helps(tmp_path: Path) -> None:
    found = surroundings(tmp_path)
    many = service("many", MAIN)
    slots = itertools.count(1)
    while any(ports for _, ports in found.book.slot_ports(many, next(slots))):
        pass

    with pytest.raises(CannotLaunch, match="cannot start api: no ports are left") as refused:
        found.ports_for("api.1#1", service("api", MAIN), 1)
    assert "hint: lower `replicas:`" in str(refused.value)
    assert not refused.value.permanent
    # what is hidden of its output is still known
    secret = service("api", MAIN, environment={"API_TOKEN": "canary-7f3a"})
    assert "canary-7f3a" in found.secrets_of(secret)


def test_an_adopted_replica_keeps_what_it_has(tmp_path: Path) -> None:
    found = surroundings(tmp_path)
    first, second, *_ = numbers(found)

    found.hold_ports("web.1#1", [("main", f"127.0.0.1:{first}")])

    assert found.ports_for("web.1#2", WEB, 1) == {"main": second}
    found.release_ports("web.1#1")
    assert found.ports_for("web.1#3", WEB, 1) == {"main": first}


def test_c05_a_fixed_port_in_use_is_told_with_who_has_it(tmp_path: Path) -> None:
    with listening(0) as server:
        port = server.getsockname()[1]
        fixed = service("old", Endpoint("main", port, fixed=True))
        found = surroundings(tmp_path)

        with pytest.raises(CannotLaunch) as refused:
            found.ports_for("old.1#1", fixed, 1)

    name = Path("/proc/self/comm").read_text().strip()
    told, hint = str(refused.value).splitlines()
    assert told == f"cannot start old: port {port} is in use by pid {os.getpid()} ({name})"
    assert hint == (
        "hint: stop that; or have the program read $PORT, and write the port without 'fixed'"
    )


def test_c05_each_taken_port_of_a_slot_is_told_with_who_has_it(tmp_path: Path) -> None:
    found = surroundings(tmp_path)
    first, *others = numbers(found)
    found.ports_for("web.1#1", WEB, 1)
    with ExitStack() as stack:
        for port in others:
            stack.enter_context(listening(port))
        with pytest.raises(CannotLaunch) as refused:
            found.ports_for("web.1#2", WEB, 1)

    told, hint = str(refused.value).splitlines()
    assert told.startswith(
        "cannot start web: all ports of its slot are in use: "
        f"{first} by web.1#1, {others[0]} by pid {os.getpid()} ("
    )
    assert hint == "hint: stop what has one of them"


def test_the_environment_is_the_shells_less_devstacks_own(tmp_path: Path) -> None:
    found = surroundings(tmp_path)

    assert found.shell() == {"PATH": "/bin", "LANG": "C"}
    variables = {v.name: v.value for v in found.variables(WEB, {"main": 11_000})}
    assert variables["PORT"] == "11000"
    assert variables["LANG"] == "C"
    assert "DEVSTACK_RUN" not in variables
    worker = found.book._current.services["worker"]
    assert "PORT" not in {v.name for v in found.variables(worker, {})}


def test_a_reference_to_nothing_is_no_use_trying_again(tmp_path: Path) -> None:
    found = surroundings(tmp_path)

    with pytest.raises(CannotLaunch, match=r"cannot start web: worker has no endpoint") as refused:
        found.resolve(WEB, (parse_template("${worker.host}"),), {"main": 11_000})
    assert refused.value.permanent


def test_k05_a_generated_password_is_the_one_that_references_give(tmp_path: Path) -> None:
    found = surroundings(tmp_path)
    spec = found.engine_spec(database("db"))

    (text,) = found.resolve(WEB, (parse_template("${db.password}"),), {"main": 11_000})

    assert text == spec.password
    assert len(text) >= 24


# ── endings ───────────────────────────────────────────────────────────────────────────────────


def started(port: int, replica: str = "web.1#1", **changes: object) -> State:
    """A state in which a replica was told to listen on a port."""
    state = reduce(State(), StackApplied(stack_of(WEB)))
    revision = state.wanted_revision("web")
    assert revision is not None
    for event in (
        PrepareStarted("web", revision),
        PrepareSucceeded("web", revision, Artifact("d")),
        ReplicaStartRequested(replica, "web", 1, revision, "fill"),
        ReplicaSpawned(replica, 4242, (("main", f"127.0.0.1:{port}"),), 1.0),
    ):
        state = reduce(state, event)
    return state


def endings(folder: Path, state: State) -> Endings:
    return Endings(folder, lambda: "run", lambda: state, lambda _: ())


def crashed(replica: str = "web.1#1") -> ReplicaEnd:
    return ReplicaEnd(replica, Exit(1, wall=5.0))


def test_c05_a_stolen_port_is_no_failure_three_times_in_a_row(tmp_path: Path) -> None:
    with listening(0) as thief:
        port = thief.getsockname()[1]
        ended = endings(tmp_path, started(port))

        ends = [ended.complete(crashed()) for _ in range(MOST_PICKS + 1)]

    assert [end.is_loss for end in ends] == [True, True, True, False]
    for end in ends:
        assert "found its port in use" in end.exit.message
        assert f"pid {os.getpid()}" in end.exit.message
        assert (end.exit.code, end.exit.wall) == (1, 5.0)


def test_c05_the_count_begins_anew_after_a_failure_of_its_own(tmp_path: Path) -> None:
    with listening(0) as thief:
        port = thief.getsockname()[1]
        state = started(port)
        ended = endings(tmp_path, state)
        assert ended.complete(crashed()).is_loss
        assert ended.complete(crashed()).is_loss
    own = ended.complete(crashed())
    assert (own.is_loss, own.exit.message) == (False, "")
    with listening(port):
        assert [ended.complete(crashed()).is_loss for _ in range(4)] == [True, True, True, False]


def test_c05_who_was_ready_or_was_stopped_lost_no_port(tmp_path: Path) -> None:
    with listening(0) as other:
        state = started(other.getsockname()[1])
        was_ready = reduce(state, ReadinessChanged("web.1#1", ready=True))
        stopped = reduce(state, ReplicaStopRequested("web.1#1", "down"))

        assert not endings(tmp_path, was_ready).complete(crashed()).is_loss
        assert not endings(tmp_path, stopped).complete(crashed()).is_loss
        success = ReplicaEnd("web.1#1", Exit(0))
        assert endings(tmp_path, state).complete(success) is success
        lost = replace(crashed(), is_loss=True)
        assert endings(tmp_path, state).complete(lost) is lost


def test_the_last_lines_of_a_failed_replica_are_kept_as_text(tmp_path: Path) -> None:
    folder = tmp_path / "web" / "run"
    writer = LogWriter(str(folder), "web.1#1")
    writer.append(b"first\n" + b"\x1b[31mred\x1b[0m \xff\n" + b"x" * 900 + b"\nno newline", 1)
    writer.close()

    end = endings(tmp_path, started(1)).complete(crashed())

    assert end.exit.tail == ("first", "red �", "x" * 500, "no newline")


def test_at_most_twenty_lines_of_the_newest_segment_are_read(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path), "web.1#1", rotate_bytes=4096)
    for number in range(2000):
        writer.append(f"line {number}\n".encode(), 1)
    writer.close()
    assert len(list(tmp_path.glob("*.log*"))) > 2

    lines = last_lines(tmp_path, "web.1#1", ())

    assert lines[-1] == "line 1999"
    assert 1 <= len(lines) <= 20
    assert last_lines(tmp_path, "web.1#2", ()) == ()
    assert last_lines(tmp_path / "none", "web.1#1", ()) == ()
