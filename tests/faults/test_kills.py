"""Kill -9 of controller, keeper and warden, alone and together, while ten of the worst services log."""

import itertools
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from devstack.api.client import Lost, connect
from devstack.keeper import processes
from tests.faults.crew import Crew, assert_gone, cautious, crew_if_there, crew_of, identity_of
from tests.faults.worst import (
    SERVICES,
    acknowledged,
    assert_all_there,
    attached,
    is_ready,
    logged,
    write_worst,
)
from tests.support.processes import eventually
from tests.support.stacks import StackUnderTest

NEW_CONTROLLER_SECONDS = 2.0
READY_AGAIN_SECONDS = 40.0
LETHAL = (("controller",), ("controller", "keeper"), ("controller", "warden"))
SURVIVED = ("keeper", "warden")

_numbers = itertools.count()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUnderTest]:
    """One checkout for all kills: what is prepared once is there for the next `up`."""
    with cautious(write_worst(tmp_path_factory.mktemp("kills") / "worst")) as stack:
        yield stack


@pytest.fixture
def worst(checkout: StackUnderTest) -> Iterator[StackUnderTest]:
    for path in (checkout.folder / "counts").iterdir():
        path.unlink()
    yield checkout
    checkout.devstack("down", code=None, seconds=60)
    checkout.assert_nothing_left()


def output(stack: StackUnderTest) -> Path:
    return stack.runtime / f"up-{next(_numbers)}.txt"


def assert_no_line_lost(stack: StackUnderTest, crew: Crew) -> None:
    for number in range(SERVICES):
        count = acknowledged(stack, number)
        assert count > 0
        # where the service lives on, the keeper reads its pipe a few milliseconds later
        eventually(partial(has_logged, stack, crew, number, count))


def has_logged(stack: StackUnderTest, crew: Crew, number: int, count: int) -> bool:
    return logged(stack, crew.run_id, number) >= count


def replicas(stack: StackUnderTest) -> dict[str, int]:
    return {r["id"]: r["pid"] for s in stack.status()["services"] for r in s["replicas"]}


def wait_ready_again(stack: StackUnderTest, crew: Crew) -> Crew:
    """The controller lives on: a new keeper, all ready, nothing left of the killed run."""

    def has_new_keeper() -> bool:
        now = crew_if_there(stack)
        return now is not None and now.run_id != crew.run_id

    # in this order: until the controller sees that its keeper is gone, all is ready
    eventually(lambda: has_new_keeper() and is_ready(stack), READY_AGAIN_SECONDS)
    after = crew_of(stack)
    assert after.controller == crew.controller
    assert crew.alive(spared=[crew.controller]) == []
    return after


@pytest.mark.parametrize("who", LETHAL, ids="+".join)
def test_a03_a16_attached_nothing_is_left_within_two_seconds(
    worst: StackUnderTest, who: tuple[str, ...]
) -> None:
    told = output(worst)
    with attached(worst, told) as client:
        crew = assert_all_there(worst)
        since = crew.kill(*who)
        assert_gone(worst, crew, since)
        assert client.wait(20) == 1, told.read_text()
    assert "controller" in told.read_text().splitlines()[-2], told.read_text()[-400:]
    if who == ("controller",):
        assert_no_line_lost(worst, crew)


@pytest.mark.parametrize("who", SURVIVED)
def test_a16_attached_the_controller_lives_on_with_a_new_keeper(
    worst: StackUnderTest, who: str
) -> None:
    told = output(worst)
    with attached(worst, told) as client:
        crew = assert_all_there(worst)
        crew.kill(who)
        after = wait_ready_again(worst, crew)
        assert_all_there(worst)
        assert client.poll() is None
        client.send_signal(signal.SIGINT)
        assert client.wait(30) == 130, told.read_text()[-2000:]
        assert_gone(worst, after, time.monotonic())


@pytest.mark.parametrize("who", SURVIVED)
def test_a16_detached_the_controller_lives_on_with_a_new_keeper(
    worst: StackUnderTest, who: str
) -> None:
    worst.up()
    crew = assert_all_there(worst)
    crew.kill(who)
    wait_ready_again(worst, crew)
    assert_all_there(worst)


@pytest.mark.parametrize("who", LETHAL[1:], ids="+".join)
@pytest.mark.parametrize("command", ["status", "up", "down"])
def test_a16_detached_nothing_is_left_and_the_next_command_says_so(
    worst: StackUnderTest, who: tuple[str, ...], command: str
) -> None:
    worst.up()
    crew = assert_all_there(worst)
    since = crew.kill(*who)
    assert_gone(worst, crew, since)

    words = {"status": ["status"], "up": ["up", "-d", "--wait"], "down": ["down"]}[command]
    told = worst.devstack(*words, code=3 if command == "status" else 0)
    assert "the last run ended because" in told.err, told.text
    assert who[1] in told.err, told.text
    if command == "up":
        assert is_ready(worst)


def test_a03_i01_detached_a_new_controller_has_the_same_replicas_and_no_line_is_lost(
    worst: StackUnderTest,
) -> None:
    worst.up()
    crew = assert_all_there(worst)
    before = replicas(worst)
    since = crew.kill("controller")

    def answers() -> bool:
        """As `devstack status` asks, without the start of a command, which is not what is timed."""
        client = connect(worst.places)
        if client is None:
            return False
        with closing(client), suppress(Lost):
            told = json.loads("\n".join(client.ask("status", json=True, colour=False).lines))
            return bool(told["controller"]["pid"] != crew.controller[0])
        return False

    eventually(answers)
    assert time.monotonic() - since < NEW_CONTROLLER_SECONDS
    assert replicas(worst) == before
    eventually(lambda: is_ready(worst), READY_AGAIN_SECONDS)
    assert replicas(worst) == before
    # a backend of PostgreSQL lives as long as its connection, a worker of NGINX until a reload
    passing = ("postgres", "nginx")
    assert [name for name in crew.dead() if name not in passing] == [crew.all[crew.controller]]

    after = crew_of(worst)
    assert (after.keeper, after.warden, after.run_id) == (crew.keeper, crew.warden, crew.run_id)
    counted = acknowledged(worst, 0)
    eventually(lambda: acknowledged(worst, 0) > counted + 100)
    assert_no_line_lost(worst, crew)


@pytest.mark.parametrize("who", SURVIVED)
def test_a03_the_keeper_is_lost_under_a_restarted_controller_which_lives_on(
    worst: StackUnderTest, who: str
) -> None:
    worst.up()
    first = assert_all_there(worst)
    first.kill("controller")
    eventually(
        lambda: is_ready(worst) and worst.controller_pid != first.controller[0],
        READY_AGAIN_SECONDS,
    )
    second = crew_of(worst)
    assert second.keeper == first.keeper
    assert_no_line_lost(worst, first)  # lines are numbered anew once the services are

    second.kill(who)
    wait_ready_again(worst, second)
    assert_all_there(worst)


@pytest.mark.parametrize("command", ["up", "down", "restart", "scale"])
def test_a16_keeper_and_warden_are_killed_too_and_the_next_command_sweeps(
    worst: StackUnderTest, command: str
) -> None:
    worst.up()
    crew = assert_all_there(worst)
    crew.kill_everybody()
    direct = [r for r in crew.all if r in (crew.controller, crew.keeper, crew.warden)]
    eventually(lambda: not any(map(processes.is_running, direct)))
    assert crew.alive(), "the daemons outlive them: nobody is there to kill them"

    reported = worst.devstack("status", code=3)
    assert "still there" in reported.err, reported.text

    words = {
        "up": ["up", "-d", "--wait"],
        "down": ["down"],
        "restart": ["restart", "s1"],
        "scale": ["scale", "web=2"],
    }[command]
    told = worst.devstack(*words, code=0 if command in ("up", "down") else 3)
    assert "killed: " in told.err, told.text
    assert crew.alive() == []
    if command == "up":
        assert is_ready(worst)


def test_a16_keeper_and_warden_are_killed_under_a_controller_that_lives_on(
    worst: StackUnderTest,
) -> None:
    worst.up()
    crew = assert_all_there(worst)
    crew.kill("keeper", "warden")
    wait_ready_again(worst, crew)
    assert identity_of(crew.controller[0]) == crew.controller
    assert os.path.exists(worst.places.keeper_socket)
