"""`devstack scale`, `stop`, `start`, `restart` and what of them outlives what."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.kit import (
    PYTHON,
    ask,
    current,
    edited,
    eventually,
    free_port,
    speaker,
    until_state,
)
from tests.support.stacks import StackUnderTest, running, stack_in, write_stack

STACK = """\
name: village
gateway:
  port: GATEWAY
  routes: {/: alpha}
services:
  alpha:
    command: [PYTHON, alpha.py]
    replicas: 2
  hall:
    command: [PYTHON, alpha.py]
    port: {fixed: FIXED}
    environment: {PORT: "FIXED"}
  worker:
    command: "sleep 1000"
    port: none
  once:
    kind: job
    command: "echo done"
databases:
  well: {engine: postgres}
"""


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUnderTest]:
    folder = tmp_path_factory.mktemp("scale") / "village"
    folder.mkdir()
    port = free_port()
    text = STACK.replace("PYTHON", PYTHON).replace("FIXED", str(free_port(port + 1)))
    write_stack(folder, text.replace("GATEWAY", str(port)), {"alpha.py": speaker()})
    with running(folder) as stack:
        yield stack


def answering(stack: StackUnderTest, times: int) -> set[int]:
    """Pids that answered a number of requests; each must succeed."""
    gateway = stack.gateway
    answers = [ask(gateway, "/") for _ in range(times)]
    assert {status for status, _ in answers} == {200}
    return {body["pid"] for _, body in answers}


def test_scaling_to_twenty_and_back_serves_with_all_and_then_with_one(
    village: StackUnderTest,
) -> None:
    told = village.devstack("scale", "alpha=20").out
    assert "20 serving" in told
    assert village.service("alpha")["ready"] == 20
    assert len(answering(village, 200)) == 20

    village.devstack("scale", "alpha=1")
    assert len(answering(village, 20)) == 1
    eventually(lambda: len(village.pids("alpha")) == 1, "one replica is left", 30)

    village.devstack("scale", "alpha=file")
    assert len(answering(village, 40)) == 2


def test_an_override_survives_up_is_shown_and_ends_with_file(village: StackUnderTest) -> None:
    village.devstack("scale", "alpha=3")
    village.up()

    service = village.service("alpha")
    assert (service["ready"], service["overridden"], service["file_replicas"]) == (3, True, 2)
    assert "3/3 (file says 2)" in village.devstack("status").out

    village.devstack("scale", "alpha=file")
    service = village.service("alpha")
    assert (service["ready"], service["overridden"]) == (2, False)
    assert "file says" not in village.devstack("status").out


def test_scaling_to_nothing_stops_and_the_gateway_says_so(village: StackUnderTest) -> None:
    village.devstack("scale", "alpha=0")

    status, page = ask(village.gateway, "/")
    assert status == 503
    assert "alpha" in str(page)
    until_state(village, "alpha", "stopped")
    service = village.service("alpha")
    assert (service["desired"], service["replicas"]) == (0, [])
    assert village.devstack("status").code == 0

    village.devstack("scale", "alpha=file")
    assert len(answering(village, 40)) == 2


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        pytest.param("well=2", "it is a database", id="database"),
        pytest.param("gateway=2", "it is a gateway", id="gateway"),
        pytest.param("once=2", "it is a job", id="job"),
        pytest.param("hall=2", "it listens on a fixed port", id="fixed-port"),
        pytest.param("alpha=201", "cannot scale alpha to 201: 200 at most", id="too-many"),
        pytest.param("alhpa=2", "did you mean 'alpha'?", id="unknown"),
        pytest.param("alpha=many", "cannot read 'alpha=many'", id="no-number"),
        pytest.param("alpha", "cannot read 'alpha'", id="no-count"),
        pytest.param("alpha=-1", "cannot read 'alpha=-1'", id="negative"),
    ],
)
def test_what_cannot_be_scaled_is_refused_with_the_reason(
    village: StackUnderTest, what: str, reason: str
) -> None:
    before = village.status()["services"]

    refused = village.devstack("scale", what, code=2)

    assert reason in refused.err
    assert [s["desired"] for s in village.status()["services"]] == [s["desired"] for s in before]


def test_several_services_are_scaled_by_one_command(village: StackUnderTest) -> None:
    village.devstack("scale", "alpha=3", "worker=2")

    assert village.service("alpha")["ready"] == 3
    assert village.service("worker")["ready"] == 2
    village.devstack("scale", "alpha=file", "worker=file")


def test_scale_that_does_not_wait_returns_at_once(village: StackUnderTest) -> None:
    told = village.devstack("scale", "alpha=4", "--no-wait")

    assert "is being scaled to 4" in told.out
    eventually(lambda: village.service("alpha")["ready"] == 4, "four serve")
    village.devstack("scale", "alpha=file")


def test_scaling_up_a_source_that_does_not_start_answers_why_and_the_old_ones_serve(
    village: StackUnderTest,
) -> None:
    before = set(current(village, "alpha"))
    with edited(village.folder / "alpha.py", 'WORD = "one"', "WORD = nothing"):
        failed = village.devstack("scale", "alpha=4", code=1)

        assert "newest source does not start: alpha.py:4 NameError" in failed.err, failed.text
        assert answering(village, 20) == before
    village.devstack("restart", "alpha")
    assert village.service("alpha")["ready"] == 4
    village.devstack("scale", "alpha=file")


def test_what_does_not_start_can_be_scaled_to_nothing(tmp_path: Path) -> None:
    write_stack(tmp_path, f"services: {{bad: {{command: [{PYTHON}, -c, 'exit(1)']}}}}")
    with stack_in(tmp_path) as stack:
        stack.devstack("up", "-d", "--wait", code=1)

        assert stack.devstack("scale", "bad=0").out == "bad: 0 serving\n"
        until_state(stack, "bad", "stopped")  # it may be tried once more just then


def test_a_stopped_service_stays_down_until_it_is_started(village: StackUnderTest) -> None:
    village.devstack("stop", "worker", "alpha")

    assert village.service("worker")["state"] == "stopped"
    assert village.service("worker")["reason"] == "stopped by hand"
    assert village.pids("alpha") == []
    told = village.up().err
    assert "note: alpha is stopped by hand: devstack start alpha\n" in told
    assert "note: worker is stopped by hand: devstack start worker\n" in told
    assert village.service("worker")["state"] == "stopped"

    village.devstack("start", "worker", "alpha")
    assert "stopped by hand" not in village.up().err
    assert village.service("worker")["state"] == "ready"
    assert len(answering(village, 40)) == 2


@pytest.mark.parametrize("command", ["restart", "start"])
def test_what_is_scaled_to_nothing_is_not_started_and_the_answer_says_so_at_once(
    village: StackUnderTest, command: str
) -> None:
    village.devstack("scale", "worker=0")

    refused = village.devstack(command, "worker", code=1, seconds=20)

    assert refused.err.startswith(f"cannot {command} worker: it is scaled to 0\n")
    assert "hint: devstack scale worker=1" in refused.err
    assert village.service("worker")["desired"] == 0
    village.devstack("scale", "worker=file")
    with edited(
        village.folder / "stack.yaml", "port: none\n  once", "port: none\n    replicas: 0\n  once"
    ):
        village.up()
        refused = village.devstack(command, "worker", code=1, seconds=20)
        assert f"cannot {command} worker: the stack file says `replicas: 0`" in refused.err
    village.up()


def test_a_stopped_service_scaled_as_the_file_says_stays_stopped_and_the_answer_says_so(
    village: StackUnderTest,
) -> None:
    village.devstack("scale", "worker=2")
    village.devstack("stop", "worker")

    told = village.devstack("scale", "worker=file", seconds=20)

    assert told.out == "worker: stopped; devstack start worker starts 1\n"
    village.devstack("start", "worker")
    assert village.service("worker")["ready"] == 1


def test_restarting_a_stopped_service_starts_it(village: StackUnderTest) -> None:
    village.devstack("stop", "alpha")

    village.devstack("restart", "alpha")

    assert len(answering(village, 40)) == 2


def test_a_fixed_port_is_listened_on_and_recreated(village: StackUnderTest) -> None:
    before = village.service("hall")
    port = int(before["replicas"][0]["address"].rpartition(":")[2])
    assert ask(f"http://127.0.0.1:{port}")[1]["word"] == "one"

    village.devstack("restart", "hall")

    (replica,) = village.service("hall")["replicas"]
    assert replica["pid"] != before["replicas"][0]["pid"]
    assert ask(f"http://127.0.0.1:{port}")[1]["pid"] == replica["pid"]
    status, body = ask(village.gateway, f"/dial/hall:{port}/")
    assert (status, body["answer"]["pid"]) == (200, replica["pid"])


def test_overrides_end_with_down(village: StackUnderTest) -> None:
    village.devstack("scale", "alpha=3")
    village.devstack("stop", "worker")

    village.devstack("down")
    village.up()

    assert (village.service("alpha")["ready"], village.service("alpha")["overridden"]) == (2, False)
    assert village.service("worker")["state"] == "ready"
