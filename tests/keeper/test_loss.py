"""Kill -9 of controller, keeper and warden in every combination, while the worst services log."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from devstack.keeper import marks, processes, starting, sweep
from devstack.keeper.errors import KeeperUnreachable
from devstack.keeper.places import Places
from tests.support.keepers import (
    PYTHON,
    WORST_SERVICE,
    read_if_there,
    running_keeper,
    spec,
    up,
    worst,
)
from tests.support.processes import (
    PATIENCE_SECONDS,
    Found,
    assert_nothing_left,
    eventually,
    eventually_async,
    is_alive,
    of_run,
    with_tag,
)

CONTROLLER = str(Path(__file__).parents[1] / "support" / "controller.py")
FAILING_KEEPER = str(Path(__file__).parents[1] / "support" / "failing_keeper.py")
ROOT = str(Path(__file__).parents[2])
SERVICES = 10
LINE = 64


class Stage:
    """A controller stand-in with what it started."""

    def __init__(self, places: Places, out: Path, tag: str) -> None:
        self.places = places
        self.out = out
        self.tag = tag
        self.started: subprocess.Popen[bytes] | None = None
        self.reports: list[dict[str, Any]] = []

    def start(self, specs: list[dict[str, object]], **plan: object) -> dict[str, Any]:
        (self.out / "plan.json").write_text(json.dumps({"specs": specs, **plan}))
        self.started = subprocess.Popen(
            [sys.executable, CONTROLLER, self.places.folder, str(self.out)],
            env={**os.environ, "PYTHONPATH": ROOT, "DEVSTACK_RUN": "of-another-devstack"},
            start_new_session=True,
        )
        return self.report(1)

    def report(self, number: int, within: float = 20.0) -> dict[str, Any]:
        path = self.out / f"controller-{number}.json"
        eventually(path.exists, within)
        told: dict[str, Any] = json.loads(path.read_text())
        self.reports.append(told)
        return told

    def kill_controller(self, told: Mapping[str, Any]) -> None:
        os.kill(told["pid"], signal.SIGKILL)
        if self.started is not None and self.started.pid == told["pid"]:
            self.started.wait()
            self.started = None

    def assert_nothing_left(self, within: float = 2.0) -> float:
        took = 0.0
        for told in self.reports:
            roots = (told["keeper"], told["warden"])
            took = assert_nothing_left(told["run_id"], self.tag, roots=roots, within=within)
        assert not os.path.exists(self.places.keeper_socket)
        return took

    def clean_up(self) -> None:
        """After a failed test too: by pid, what the reports name."""
        if self.started is not None:
            self.started.kill()
            self.started.wait()
        for told in self.reports:
            for found in of_run(told["run_id"], (told["keeper"], told["warden"])):
                kill_if_there(found.pid)
        for found in with_tag(str(self.out)) + with_tag(self.tag):
            kill_if_there(found.pid)


def kill_if_there(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def stage(places: Places, tmp_path: Path, tag: str) -> Iterator[Stage]:
    made = Stage(places, tmp_path, tag)
    yield made
    made.clean_up()


def services(stage: Stage, count: int = SERVICES) -> list[dict[str, object]]:
    """Ten that log numbered lines, each with a child, a daemon and a daemon without environment."""
    return [
        {
            "key": f"s{n}",
            "argv": [
                *(PYTHON, "-I", "-S", WORST_SERVICE, stage.tag),
                *("child", "daemon", "bare", "deaf", f"numbers={stage.out}/count-{n}"),
            ],
            "log": [str(stage.out / "logs"), f"s{n}"],
        }
        for n in range(count)
    ]


def wait_until_all_log(stage: Stage, count: int = SERVICES) -> None:
    eventually(lambda: all(acknowledged(stage, number) > 100 for number in range(count)), 30)


def acknowledged(stage: Stage, number: int) -> int:
    path = stage.out / f"count-{number}"
    return int.from_bytes(path.read_bytes(), "little") if path.exists() else 0


def assert_no_line_lost(stage: Stage, count: int = SERVICES) -> int:
    """Each line whose write returned is in the log, in order; all segments read as one."""
    total = 0
    for number in range(count):
        expected = 0
        for path in sorted(
            (stage.out / "logs").glob(f"s{number}.log*"),
            key=lambda path: (len(path.name), path.name),
        ):
            for line in path.read_bytes().splitlines():
                assert int(line) == expected, f"{path.name}: {line!r} instead of {expected}"
                expected += 1
        assert expected >= acknowledged(stage, number)
        total += expected
    return total


def test_a03_an_attached_controller_is_killed_and_nothing_is_left_and_no_line_lost(
    stage: Stage,
) -> None:
    told = stage.start(services(stage), mode="attached")
    wait_until_all_log(stage)
    eventually(lambda: len(with_tag(stage.tag)) >= 4 * SERVICES)

    stage.kill_controller(told)

    stage.assert_nothing_left()
    assert assert_no_line_lost(stage) > 1000
    (dead,) = sweep.sweep([stage.places], kill=False)
    assert dead.ended == "its controller was lost"
    assert sweep.sweep([stage.places], kill=True)[0].found == ()
    assert sweep.sweep([stage.places], kill=True) == []


@pytest.mark.parametrize("victims", [("keeper",), ("warden",)])
@pytest.mark.parametrize("mode", ["attached", "detached"])
def test_a16_keeper_or_warden_is_killed_and_the_controller_starts_a_new_one(
    stage: Stage, victims: tuple[str, ...], mode: str
) -> None:
    told = stage.start(services(stage), mode=mode, start_again=True)
    wait_until_all_log(stage)

    for victim in victims:
        os.kill(told[victim], signal.SIGKILL)

    roots = (told["keeper"], told["warden"])
    assert_nothing_left(told["run_id"], f"{stage.tag} ", roots=roots, within=2.0)
    again = stage.report(2)
    assert again["pid"] == told["pid"]
    assert again["run_id"] != told["run_id"]
    assert is_alive(again["keeper"])
    stage.kill_controller(told)
    stage.assert_nothing_left()


@pytest.mark.parametrize("victim", ["keeper", "warden"])
@pytest.mark.parametrize("mode", ["attached", "detached"])
def test_a16_the_controller_is_killed_together_with_keeper_or_warden(
    stage: Stage, victim: str, mode: str
) -> None:
    told = stage.start(services(stage), mode=mode)
    wait_until_all_log(stage)

    os.kill(told["keeper"], signal.SIGSTOP)  # so that it starts no controller between the two
    os.kill(told["pid"], signal.SIGKILL)
    os.kill(told[victim], signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(told["keeper"], signal.SIGCONT)

    stage.kill_controller(told)
    stage.assert_nothing_left()
    (dead,) = sweep.sweep([stage.places], kill=True)
    assert dead.ended in (f"its {victim} was killed", "its controller was lost")
    assert not dead.found
    assert "the last run ended because" in str(dead)
    assert not (stage.out / "controller-2.json").exists()


def test_a16_keeper_and_warden_are_killed_and_the_next_command_sweeps(stage: Stage) -> None:
    """PDEATHSIG ends the direct children; daemons, with and without environment, are swept."""
    told = stage.start(services(stage, 3), mode="attached")
    wait_until_all_log(stage, 3)

    def named(word: str) -> list[Found]:
        return [found for found in with_tag(stage.tag) if found.command.endswith(f" {word}")]

    # a fork that has not come to its exec yet looks like the one it came from
    eventually(lambda: len(named("daemon")) == len(named("bare")) == 3)
    daemons, bare = named("daemon"), named("bare")

    os.kill(told["warden"], signal.SIGSTOP)  # so that it cannot clean up before it is killed
    os.kill(told["keeper"], signal.SIGKILL)
    os.kill(told["warden"], signal.SIGKILL)

    eventually(lambda: not with_tag(WORST_SERVICE + f" {stage.tag}"))
    eventually(lambda: not is_alive(told["keeper"]) and not is_alive(told["warden"]))
    assert with_tag(stage.tag), "daemons survive: that is what the sweep is for"
    (reported,) = sweep.sweep([stage.places], kill=False)
    assert {int(name.split("[")[1][:-1]) for name in reported.found} >= {
        found.pid for found in daemons + bare
    }
    assert with_tag(stage.tag), "a reading command kills nothing"
    (swept,) = sweep.sweep([stage.places], kill=True)
    assert len(swept.killed) >= 6
    assert swept.ended == "its keeper and its warden were killed"
    stage.kill_controller(told)
    assert_nothing_left(told["run_id"], stage.tag)
    assert sweep.sweep([stage.places], kill=True) == []


def test_a03_i01_a_detached_controller_is_killed_and_a_new_one_adopts_the_same_pids(
    stage: Stage,
) -> None:
    told = stage.start(services(stage), mode="detached")
    wait_until_all_log(stage)
    killed_at = time.monotonic()

    stage.kill_controller(told)

    second = stage.report(2, within=2.0)
    assert time.monotonic() - killed_at < 2
    assert second["pid"] != told["pid"]
    assert second["processes"] == told["processes"]
    assert second["keeper"] == told["keeper"]
    assert all(is_alive(pid) for pid in told["processes"].values())
    assert second["environment"] == []  # no mark of ours, nor the one that its caller had
    assert assert_no_line_lost_so_far(stage)
    # the keeper's own child this time, and part of nothing: killing the keeper leaves it alive
    os.kill(told["keeper"], signal.SIGKILL)
    assert_nothing_left(told["run_id"], f"{stage.tag} ", roots=(told["keeper"], told["warden"]))
    eventually(lambda: not is_alive(second["pid"]))  # this stand-in ends when its keeper is gone


def assert_no_line_lost_so_far(stage: Stage) -> bool:
    """While they write: what was acknowledged before is there soon after."""
    before = {number: acknowledged(stage, number) for number in range(SERVICES)}

    def all_there() -> bool:
        sizes = (
            sum(path.stat().st_size for path in (stage.out / "logs").glob(f"s{number}.log*"))
            for number in range(SERVICES)
        )
        return all(size >= before[number] * LINE for number, size in enumerate(sizes))

    return eventually(all_there)


def test_a03_the_keeper_is_killed_under_a_restarted_controller_which_lives_on(
    stage: Stage,
) -> None:
    """The restarted controller is a child of the keeper: every kill loop must skip it."""
    told = stage.start(services(stage, 3), mode="detached", start_again=True)
    wait_until_all_log(stage, 3)
    stage.kill_controller(told)
    second = stage.report(2)

    os.kill(told["keeper"], signal.SIGKILL)

    third = stage.report(3)
    assert third["pid"] == second["pid"]
    assert third["run_id"] != told["run_id"]
    roots = (told["keeper"], told["warden"])
    assert_nothing_left(told["run_id"], roots=roots)
    assert is_alive(second["pid"])
    assert is_alive(third["keeper"])
    stage.kill_controller(second)
    stage.assert_nothing_left()


def test_a03_the_warden_is_killed_under_a_restarted_controller_which_lives_on(
    stage: Stage,
) -> None:
    told = stage.start(services(stage, 3), mode="detached", start_again=True)
    wait_until_all_log(stage, 3)
    stage.kill_controller(told)
    second = stage.report(2)

    os.kill(told["warden"], signal.SIGKILL)

    third = stage.report(3)
    assert third["pid"] == second["pid"]
    assert_nothing_left(told["run_id"], roots=(told["keeper"], told["warden"]))
    stage.kill_controller(second)
    stage.assert_nothing_left()


def test_no_more_than_three_controllers_are_started_in_a_minute(stage: Stage) -> None:
    told = stage.start(services(stage, 1), mode="detached")
    for number in (2, 3, 4):
        stage.kill_controller(told)
        told = stage.report(number)
    stage.kill_controller(told)
    time.sleep(1.0)  # nothing is to happen, so there is nothing to wait for

    assert not (stage.out / "controller-5.json").exists()
    assert is_alive(told["keeper"])
    assert is_alive(told["processes"]["s0"])
    os.kill(told["keeper"], signal.SIGTERM)
    stage.assert_nothing_left(within=PATIENCE_SECONDS)


def test_steps_of_a_lost_controller_are_killed_and_replicas_are_not(stage: Stage) -> None:
    sleeper = ["sh", "-c", f"sleep 1000 & wait; : {stage.tag}"]
    keys = ("a.1#1", "prepare:a:1", "probe:a.1#1:4")
    told = stage.start([{"key": key, "argv": sleeper} for key in keys], mode="detached")

    stage.kill_controller(told)

    second = stage.report(2)
    eventually(
        lambda: (
            not is_alive(told["processes"]["prepare:a:1"])
            and not is_alive(told["processes"]["probe:a.1#1:4"])
        )
    )
    assert second["processes"]["a.1#1"] == told["processes"]["a.1#1"]
    assert is_alive(told["processes"]["a.1#1"])
    assert set(second["exits"]) | set(second["processes"]) == set(keys)
    os.kill(told["keeper"], signal.SIGTERM)
    stage.assert_nothing_left(within=PATIENCE_SECONDS)


def test_the_loss_of_an_attached_controller_runs_its_last_command(stage: Stage) -> None:
    done = stage.out / "removed"
    told = stage.start(
        services(stage, 2),
        mode="attached",
        on_loss=["sh", "-c", f"sleep 1.5; echo containers > {done}"],
    )
    wait_until_all_log(stage, 2)

    stage.kill_controller(told)

    eventually(lambda: read_if_there(done) == "containers\n")
    stage.assert_nothing_left()


def tidies_up(said: Path, listens: Path) -> str:
    """A program that takes a moment to end; it says when it can be asked to."""
    on_term = f"sleep 0.1; echo tidy > {said}; exit"
    return f"trap '{on_term}' TERM; echo > {listens}; while :; do sleep 0.01; done"


def test_processes_that_obey_get_their_second_when_the_controller_is_lost(stage: Stage) -> None:
    said, listens = stage.out / "said", stage.out / "listens"
    told = stage.start(
        [{"key": "a", "argv": ["sh", "-c", tidies_up(said, listens), stage.tag]}], mode="attached"
    )
    eventually(listens.exists)

    stage.kill_controller(told)

    stage.assert_nothing_left()
    assert said.read_text() == "tidy\n"


def test_a_controller_that_dies_before_it_greets_leaves_no_keeper(
    stage: Stage, places: Places
) -> None:
    program = (
        "import asyncio, os, sys\n"
        "from devstack.keeper.launch import start_keeper\n"
        "from devstack.keeper.places import Places\n"
        "print(asyncio.run(start_keeper(Places(sys.argv[1]))), flush=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, places.folder],
        env={**os.environ, "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )

    run_id = ended.stdout.strip()
    eventually(lambda: not with_tag(f"--run {run_id}"))
    assert sweep.sweep([places], kill=False) == []
    assert marks.runs_in(places.folder) == []


def test_nothing_of_the_run_holds_the_callers_pipes(stage: Stage, places: Places) -> None:
    """`devstack up -d | tee log` must end."""
    program = (
        "import asyncio, os, sys\n"
        "from devstack.keeper.client import KeeperClient\n"
        "from devstack.keeper.launch import start_keeper\n"
        "from devstack.keeper.places import Places\n"
        "from devstack.keeper.requests import SpawnSpec\n"
        "async def main():\n"
        "    os.set_inheritable(int(sys.argv[2]), True)\n"
        "    await start_keeper(Places(sys.argv[1]))\n"
        "    keeper = await KeeperClient.connect(Places(sys.argv[1]).keeper_socket)\n"
        "    await keeper.spawn(SpawnSpec('a', 'a', ('sleep', '1000'), {}, '/'))\n"
        "    await keeper.mode('detached')\n"
        "    print(keeper.greeting.pid, flush=True)\n"
        "asyncio.run(main())\n"
    )
    reader, writer = os.pipe()
    ended = subprocess.run(
        [sys.executable, "-c", program, places.folder, str(writer)],
        env={**os.environ, "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        pass_fds=(writer,),
        check=True,
        text=True,
        timeout=30,
    )
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b""

    keeper = int(ended.stdout)
    (run,) = marks.runs_in(places.folder)
    os.kill(keeper, signal.SIGTERM)
    assert_nothing_left(run.run_id, roots=(keeper, run.warden[0]))


@pytest.mark.parametrize("victim", ["keeper", "warden"])
def test_a16_a_new_controller_that_has_not_greeted_goes_with_the_run(
    stage: Stage, victim: str
) -> None:
    """Else controller and keeper, killed at once, could leave a controller that nobody asked for."""
    hanging = ["sh", "-c", f"sleep 1000 & wait; : {stage.tag} hanging"]
    told = stage.start(services(stage, 1), mode="detached", respawn=hanging)
    stage.kill_controller(told)
    eventually(lambda: any(found.command.endswith("hanging") for found in with_tag(stage.tag)))

    os.kill(told[victim], signal.SIGKILL)

    stage.assert_nothing_left()


def test_a16_a_warden_that_is_asked_to_end_while_it_cleans_up_still_cleans_up(
    stage: Stage,
) -> None:
    """Whoever ends a session sends TERM to all of it, and the keeper may be gone already."""
    told = stage.start(services(stage), mode="attached")
    wait_until_all_log(stage)

    os.kill(told["keeper"], signal.SIGKILL)
    eventually(lambda: processes.look(told["keeper"]) is None)
    while is_alive(told["warden"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(told["warden"], signal.SIGTERM)
            os.kill(told["warden"], signal.SIGINT)

    stage.assert_nothing_left()
    (dead,) = sweep.sweep([stage.places], kill=True)
    assert dead.ended == "its keeper was killed"
    assert not dead.found


@pytest.mark.parametrize("is_last_kill_broken", [False, True])
def test_a_bug_of_the_keepers_is_told_and_everything_ends_as_if_the_controller_was_lost(
    places: Places, tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch,
    is_last_kill_broken: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(starting, "_entry_file", lambda: FAILING_KEEPER)
    if is_last_kill_broken:
        monkeypatch.setenv("BREAK_LAST_KILL", "1")
    said, listens, ready = tmp_path / "said", tmp_path / "listens", tmp_path / "ready"

    async def scenario() -> int:
        async with running_keeper(places) as keeper:
            await keeper.spawn(spec("a", "sh", "-c", tidies_up(said, listens), tag))
            await up(keeper, worst("b", tag, "deaf", "daemon", "bare", f"ready={ready}"), ready)
            await eventually_async(listens.exists)
            for _ in range(2):
                with pytest.raises(KeeperUnreachable):
                    await keeper.descendants("a")
            return keeper.greeting.pid

    asyncio.run(scenario())

    assert said.read_text() == "tidy\n"
    (dead,) = sweep.sweep([places], kill=True)
    assert dead.ended == f"its keeper failed, see {places.keeper_log}"
    assert not dead.found
    assert not with_tag(tag)
    log = Path(places.keeper_log).read_text()
    assert log.count("ZeroDivisionError: planted") == log.count("Traceback")
    assert log.count("Traceback") == (2 if is_last_kill_broken else 1)
