"""`devstack up` on a running stack: the file is loaded again and only the difference is done."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.kit import (
    PYTHON,
    KeepAlive,
    ask,
    current,
    eventually,
    free_port,
    listener,
    speaker,
    staying,
)
from tests.support.stacks import StackUnderTest, running, write_stack

HEAD = """\
name: town
gateway:
  port: GATEWAY
  routes: {/: alpha, /beta: {to: beta, strip: true}, /gamma: {to: gamma, strip: true}}
services:
"""
ALPHA = """\
  alpha:
    command: [PYTHON, alpha.py]
"""
BETA = """\
  beta:
    command: [PYTHON, beta.py]
    environment: {COLOUR: red}
"""
GAMMA = """\
  gamma:
    command: [PYTHON, gamma.py]
"""
WORKER = """\
  worker:
    command: "sleep 1000"
    port: none
"""


def text(*services: str, port: int, head: str = HEAD) -> str:
    routed = head
    for name in ("beta", "gamma"):
        if not any(s.lstrip().startswith(name) for s in services):
            routed = routed.replace(f", /{name}: {{to: {name}, strip: true}}", "")
    return (routed + "".join(services)).replace("PYTHON", PYTHON).replace("GATEWAY", str(port))


class Town:
    """The stack and its file."""

    def __init__(self, stack: StackUnderTest, port: int) -> None:
        self.stack = stack
        self.port = port

    def apply(self, *services: str, head: str = HEAD) -> None:
        self.write(text(*services, port=self.port, head=head))
        self.stack.up()

    def write(self, content: str) -> None:
        (self.stack.folder / "stack.yaml").write_text(content)

    def pids(self) -> dict[str, list[int]]:
        """Those that serve, of every service that is there: one look, as services come and go."""
        return {s["name"]: staying(s) for s in self.stack.status()["services"]}


@pytest.fixture(scope="module")
def module_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("up-again") / "town"
    folder.mkdir()
    port = free_port()
    files = {f"{name}.py": speaker(name) for name in ("alpha", "beta", "gamma")}
    write_stack(folder, text(ALPHA, BETA, WORKER, port=port), files)
    with running(folder) as stack:
        yield Town(stack, port)


@pytest.fixture
def town(module_town: Town) -> Town:
    """As it was at first; what an earlier test added has gone."""
    module_town.apply(ALPHA, BETA, WORKER)
    names = {"alpha", "beta", "gateway", "worker"}
    eventually(lambda: set(module_town.pids()) == names, "it is as it was")
    return module_town


def test_an_unchanged_file_changes_nothing(town: Town) -> None:
    before = town.pids()

    again = town.stack.up()

    assert town.pids() == before
    assert town.stack.gateway in again.out


def test_a_changed_service_is_replaced_and_unchanged_ones_keep_their_pids(town: Town) -> None:
    before = town.pids()

    with KeepAlive(town.stack.gateway, "/beta/env/COLOUR").asking() as client:
        eventually(lambda: client.words, "it has asked")
        town.apply(ALPHA, BETA.replace("red", "blue"), WORKER)
        assert ask(town.stack.gateway, "/beta/env/COLOUR")[1]["value"] == "blue"

    after = town.pids()
    assert client.failures == []
    assert client.has_heard("red")
    assert set(after["beta"]).isdisjoint(before["beta"])
    assert {n: p for n, p in after.items() if n != "beta"} == {
        n: p for n, p in before.items() if n != "beta"
    }


def test_a_source_that_changed_meanwhile_is_put_in_place_by_up_too(town: Town) -> None:
    before = town.pids()
    path = town.stack.folder / "beta.py"
    path.write_text(speaker("other"))

    town.stack.up()

    assert ask(town.stack.gateway, "/beta/")[1]["word"] == "other"
    assert town.pids()["alpha"] == before["alpha"]
    path.write_text(speaker("beta"))


def test_a_removed_service_stops_and_a_new_one_starts(town: Town) -> None:
    before = town.pids()

    town.apply(ALPHA, GAMMA)

    eventually(lambda: set(town.pids()) == {"alpha", "gamma", "gateway"}, "others are gone")
    after = town.pids()
    assert after["alpha"] == before["alpha"]
    assert after["gateway"] == before["gateway"]
    assert ask(town.stack.gateway, "/gamma/")[1]["word"] == "gamma"
    for pid in (*before["beta"], *before["worker"]):
        eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"{pid} is gone")  # type: ignore[misc]  # mypy has no type for a lambda's default


def test_a_new_service_is_dialled_by_name_from_a_new_replica(town: Town) -> None:
    town.apply(ALPHA, BETA.replace("red", "green"), WORKER, GAMMA)

    status, body = ask(town.stack.gateway, "/beta/dial/gamma:8080/")

    assert (status, body["answer"]["word"]) == (200, "gamma")
    status, body = ask(town.stack.gateway, "/gamma/dial/beta:8080/")
    assert (status, body["answer"]["word"]) == (200, "beta")


def test_a_new_service_is_dialled_by_name_from_what_ran_before_it(town: Town) -> None:
    before = town.pids()["alpha"]

    town.apply(ALPHA, BETA, WORKER, GAMMA)

    status, body = ask(town.stack.gateway, "/dial/gamma:8080/")
    assert (status, body["answer"]["word"]) == (200, "gamma")
    assert town.pids()["alpha"] == before


@pytest.mark.parametrize(
    ("wrong", "line", "words"),
    [
        pytest.param("  alpha:\n    comand: [x]\n", 7, "command", id="unknown-key"),
        pytest.param("  alpha:\n    command: [x\n", 8, "stack.yaml", id="no-yaml"),
        pytest.param(
            "  alpha:\n    command: [x]\n    depends_on: [nobody]\n", 8, "nobody", id="no-such-name"
        ),
    ],
)
def test_an_invalid_file_changes_nothing_and_is_told_with_its_place(
    town: Town, wrong: str, line: int, words: str
) -> None:
    before = town.pids()
    town.write(text(wrong, port=town.port))

    refused = town.stack.devstack("up", "-d", "--wait", code=2)

    assert f"stack.yaml:{line}:" in refused.err, refused.text
    assert words in refused.err
    assert town.pids() == before
    assert ask(town.stack.gateway, "/")[1]["word"] == "alpha"


def test_another_gateway_port_is_served_without_touching_the_services(town: Town) -> None:
    before, old = town.pids(), town.stack.gateway
    port = free_port()
    town.write(text(ALPHA, BETA, WORKER, port=port))

    town.stack.up()

    assert town.stack.gateway == f"http://127.0.0.1:{port}" != old
    assert ask(town.stack.gateway, "/")[1]["word"] == "alpha"
    with pytest.raises(ConnectionRefusedError):
        ask(old, "/")
    assert town.pids() == before


def test_a_route_that_is_moved_is_in_force_when_up_returns(town: Town) -> None:
    before = town.pids()

    town.apply(ALPHA, BETA, WORKER, head=HEAD.replace("/: alpha", "/: beta"))

    assert ask(town.stack.gateway, "/")[1]["word"] == "beta"
    assert town.pids() == before


def test_a_gateway_port_that_is_taken_is_refused_and_the_old_one_goes_on(town: Town) -> None:
    before, old = town.pids(), town.stack.gateway
    port = free_port()
    fixed = HEAD.replace("GATEWAY", f"{{fixed: {port}}}")

    with listener(port):
        town.write(text(ALPHA, BETA, WORKER, port=port, head=fixed))
        refused = town.stack.devstack("up", "-d", "--wait", code=1)

        assert str(port) in refused.err
        assert str(os.getpid()) in refused.err
        for told in (refused, town.stack.devstack("status"), town.stack.devstack("endpoints")):
            assert f"http://127.0.0.1:{port}" not in told.out
        assert ask(old, "/")[1]["word"] == "alpha"
    assert town.pids() == before
    town.stack.up()
    assert town.stack.gateway == f"http://127.0.0.1:{port}"


def test_another_number_of_replicas_in_the_file_keeps_the_ones_that_run(town: Town) -> None:
    (before,) = town.pids()["beta"]

    town.apply(ALPHA, BETA + "    replicas: 3\n", WORKER)

    after = current(town.stack, "beta")
    assert before in after
    assert len(after) == 3
    assert town.stack.service("beta")["overridden"] is False


def test_a_name_that_changes_its_kind_of_program_is_replaced(town: Town) -> None:
    before = town.pids()["worker"]

    town.apply(ALPHA, BETA, WORKER.replace('"sleep 1000"', "[sleep, '1001']"))

    assert set(town.pids()["worker"]).isdisjoint(before)
