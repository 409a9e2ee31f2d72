"""I01, I02, I03: a controller that comes after another one, after a crash, beside another one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from devstack.api.client import connect
from devstack.keeper import processes
from devstack.keeper.marks import runs_in
from tests.faults.crew import cautious, crew_of, identity_of
from tests.faults.worst import WEB, is_ready
from tests.support.processes import eventually
from tests.support.stacks import StackUnderTest, write_stack

ROUNDS = 50
WAIT_EVERY = 10
"""Rounds in which both wait until the stack is ready; the others end it while it starts."""
TICKER = """\
import time
number = 0
while True:
    print(number, flush=True)
    number += 1
    time.sleep(0.01)
"""
STACK = f"""\
name: plain
services:
  a: {{port: none, replicas: 2, stop: {{grace: 0.3s}}, command: [{sys.executable}, -I, ticker.py]}}
  b: {{port: none, stop: {{grace: 0.3s}}, command: [sleep, "1000"]}}
  c: {{port: none, stop: {{grace: 0.3s}}, command: [sleep, "1000"]}}
"""


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[StackUnderTest]:
    folder = tmp_path / "plain"
    folder.mkdir()
    write_stack(folder, STACK, {"ticker.py": TICKER})
    with cautious(folder) as stack:
        yield stack


def replicas(stack: StackUnderTest) -> dict[str, int]:
    return {r["id"]: r["pid"] for s in stack.status()["services"] for r in s["replicas"]}


def restarts(stack: StackUnderTest, name: str) -> list[int]:
    """Of each replica of a service; none while it waits to be started again."""
    return [replica["restarts"] for replica in stack.service(name)["replicas"]]


def test_i01_a_killed_controller_is_followed_by_one_that_knows_pids_counters_and_logs(
    plain: StackUnderTest,
) -> None:
    plain.up()
    os.kill(plain.pids("b")[0], signal.SIGKILL)
    eventually(lambda: restarts(plain, "b") == [1] and is_ready(plain), 20)
    plain.devstack("scale", "c=2")
    before = plain.status()
    crew = crew_of(plain)
    crew.kill("controller")

    # no command: only the lock tells that the keeper has started another one
    eventually(
        lambda: (
            Path(plain.places.controller_lock).read_text().strip()
            not in ("", str(crew.controller[0]))
        ),
        10,
    )
    plain.up()
    after = plain.status()
    assert after["controller"]["pid"] != before["controller"]["pid"]
    kept = ("name", "desired", "ready", "overridden", "revision", "last_exit", "url")
    for old, new in zip(before["services"], after["services"], strict=True):
        assert {key: old[key] for key in kept} == {key: new[key] for key in kept}
        of_replica = ("id", "slot", "pid", "address", "restarts", "started_at")
        assert [[r[key] for key in of_replica] for r in old["replicas"]] == [
            [r[key] for key in of_replica] for r in new["replicas"]
        ]
    assert restarts(plain, "b") == [1]
    assert plain.service("c")["overridden"] is True
    told = plain.devstack("why", "b").out
    assert told.index("b.1#1 started") < told.index("b.1#2 started"), (
        "what happened is not forgotten"
    )
    assert len(plain.runs()) == 1

    lines = [json.loads(line) for line in plain.devstack("logs", "a", "--json").out.splitlines()]
    for producer in ("a.1#1", "a.2#1"):
        numbers = [int(line["text"]) for line in lines if line["producer"] == producer]
        assert numbers == list(range(len(numbers))), f"{producer}: lines are missing"
    assert len(lines) > 100


EDITED = "services: {s: {source: code, port: none, command: [sh, run.sh]}, t: {command: sleep 999, port: none}}"
MEANWHILE = {
    "a source was edited": (EDITED, "exec sleep 1001"),
    "the stack file was broken": ("services: {s: {comand: x}}", "exec sleep 1000"),
    "a service was taken out": (
        "services: {t: {command: sleep 999, port: none}}",
        "exec sleep 1000",
    ),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_i01_a_new_controller_takes_over_what_was_applied_whatever_became_of_the_files(
    tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "edited"
    folder.mkdir()
    write_stack(folder, EDITED, {"code/run.sh": "exec sleep 1000"})
    with cautious(folder) as stack:
        stack.up()
        before, pids = stack.status()["controller"]["pid"], replicas(stack)
        file, source = MEANWHILE[what]
        (folder / "stack.yaml").write_text(file)
        (folder / "code" / "run.sh").write_text(source)

        os.kill(before, signal.SIGKILL)

        def has_another() -> bool:
            told = stack.devstack("status", "--json", code=None)
            return told.code == 0 and json.loads(told.out)["controller"]["pid"] != before

        eventually(has_another, 20)
        eventually(lambda: is_ready(stack), 20)
        assert replicas(stack) == pids
        assert {s["name"]: s["state"] for s in stack.status()["services"]} == {
            "s": "ready",
            "t": "ready",
        }
        (folder / "stack.yaml").write_text(EDITED)
        (folder / "code" / "run.sh").write_text("exec sleep 1002")
        stack.up()
        assert replicas(stack)["t.1#1"] == pids["t.1#1"], "what did not change stays"
        assert "s.1#2" in replicas(stack), "the next up looks at the files again"


def test_i01_one_that_is_killed_while_it_takes_over_is_followed_by_one_that_does(
    plain: StackUnderTest,
) -> None:
    plain.up()
    pids = replicas(plain)
    lock = Path(plain.places.controller_lock)
    first = lock.read_text().strip()
    os.kill(int(first), signal.SIGKILL)
    second = eventually(
        lambda: next((p for p in [lock.read_text().strip()] if p not in ("", first)), None), 10
    )
    assert second is not None
    os.kill(int(second), signal.SIGKILL)  # it has the lock, and has not begun

    def has_another() -> bool:
        told = plain.devstack("status", "--json", code=None)
        controllers = (int(first), int(second))
        return told.code == 0 and json.loads(told.out)["controller"]["pid"] not in controllers

    eventually(has_another, 20)
    eventually(lambda: is_ready(plain), 20)
    assert replicas(plain) == pids


def test_i01_the_new_controller_has_the_environment_of_the_last_up(tmp_path: Path) -> None:
    folder = tmp_path / "tagged"
    folder.mkdir()
    write_stack(folder, 'services: {s: {port: none, command: [sleep, "${TAG}"]}}', {})
    with cautious(folder) as stack:
        stack.extra["TAG"] = "1001"
        stack.up()
        stack.extra["TAG"] = "1002"
        stack.up()
        eventually(lambda: list(replicas(stack)) == ["s.1#2"])  # `up` waits for no end of the older
        before, pids = stack.status()["controller"]["pid"], replicas(stack)

        os.kill(before, signal.SIGKILL)

        def has_another() -> bool:
            told = stack.devstack("status", "--json", code=None)
            return told.code == 0 and json.loads(told.out)["controller"]["pid"] != before

        eventually(has_another, 20)
        stack.up()
        assert replicas(stack) == pids


def test_i01_a_controller_killed_on_the_way_down_is_not_followed_by_one_that_starts_all_again(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ending"
    folder.mkdir()
    deaf = tmp_path / "deaf"
    slow = f"trap '' TERM; echo > {deaf}; while :; do sleep 0.1; done"
    write_stack(
        folder,
        f"services: {{mule: {{port: none, stop: {{grace: 60s}}, command: {json.dumps(slow)}}}}}",
    )
    with cautious(folder) as stack:
        stack.up()
        crew = crew_of(stack)
        [mule] = stack.pids("mule")
        eventually(deaf.exists)
        going = stack.start("down", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: stack.service("mule")["state"] == "stopping", 20)

        crew.kill("controller")

        assert going.wait(20) != 0, "it cannot say that it is done"
        eventually(lambda: not crew.alive() and not processes.start_of(mule), 10)
        assert stack.devstack("status", code=3)
        # wishes end with down, however it went on
        assert not (folder / ".devstack" / "state" / "snapshot.json").exists()


def test_i02_after_everything_was_killed_the_next_up_just_works(plain: StackUnderTest) -> None:
    plain.up()
    plain.devstack("scale", "c=2")
    crew = crew_of(plain)
    crew.kill_everybody()
    eventually(lambda: not crew.alive())
    assert os.path.exists(plain.places.control_socket), "the stale socket is what this is about"
    assert os.path.exists(plain.places.keeper_socket)
    told = plain.up()
    assert "the last run ended because" in told.err, told.text
    assert is_ready(plain)
    assert (plain.service("c")["overridden"], plain.service("c")["ready"]) == (True, 2)
    assert len(runs_in(plain.places.folder)) == 1
    assert not {pid for pid, _ in crew.all} & set(replicas(plain).values())

    crew = crew_of(plain)
    crew.kill_everybody()
    eventually(lambda: not crew.alive())
    plain.devstack("down")
    plain.up()
    assert plain.service("c")["overridden"] is False, "wishes end with down, whoever does it"


def test_i02_after_a_boot_the_state_is_dropped_and_nobody_is_killed_by_an_old_pid(
    plain: StackUnderTest,
) -> None:
    plain.up()
    plain.devstack("scale", "c=2")
    crew = crew_of(plain)
    crew.kill_everybody()
    eventually(lambda: not crew.alive())

    # what the machine had written before it went down: pids that now belong to somebody else
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        [run] = runs_in(plain.places.folder)
        identity = (stranger.pid, processes.start_of(stranger.pid))
        run.boot, run.keeper, run.warden = "another-boot", identity, identity
        run.write()
        snapshot = plain.folder / ".devstack" / "state" / "snapshot.json"
        kept = json.loads(snapshot.read_text())
        assert kept["services"]["c"]["known"]["override_replicas"] == 2
        snapshot.write_text(json.dumps(kept | {"boot_id": "another-boot"}))

        plain.up()
        assert is_ready(plain)
        assert plain.service("c")["overridden"] is False
        assert len(plain.service("c")["replicas"]) == 1
        assert [found.run_id for found in runs_in(plain.places.folder)] != [run.run_id]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_i01_an_nginx_that_was_starting_when_the_controller_died_is_looked_after(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "gated"
    folder.mkdir()
    text = f"""\
name: gated
gateway: {{port: 18082, routes: {{/: web}}}}
services:
  web: {{command: [{sys.executable}, -I, web.py], ready: {{http: /}}}}
"""
    write_stack(folder, text, {"web.py": WEB})
    with cautious(folder) as stack:
        stack.up()
        crew = crew_of(stack)
        before = stack.pids("gateway")
        # as it is before NGINX is known to serve: what it loaded was not written down
        (folder / ".devstack" / "state" / "gateway" / "shape.json").unlink()
        crew.kill("controller")

        eventually(lambda: is_ready(stack) and stack.controller_pid != crew.controller[0], 20)
        assert stack.pids("gateway") == before
        url = stack.gateway
        stack.devstack("scale", "web=2")
        assert {httpx.get(url, trust_env=False).status_code for _ in range(20)} == {200}


# source of the programs is what their commands name, so what they write lies beside the stack's folder
NOTES_AND_ENDS = """\
echo ran >> ../$1.ran
exit $2
"""
WAITS = """\
until rm ../$1.go 2>/dev/null; do sleep 0.05; done
. ./ends.sh
"""
ENDED = """\
name: ended
services:
  broken: {kind: job, command: [sh, ./ends.sh, broken, "1"]}
  over: {port: none, command: [sh, ./ends.sh, over, "0"]}
  never: {port: none, restart: never, command: [sh, ./ends.sh, never, "3"]}
  absent: {port: none, command: [no-such-program]}
  late-job: {kind: job, command: [sh, ./waits.sh, late-job, "0"]}
  late: {port: none, restart: never, command: [sh, ./waits.sh, late, "0"]}
  crash: {port: none, command: [sh, ./waits.sh, crash, "7"]}
  after: {port: none, depends_on: {late-job: completed}, command: [sh, ./ends.sh, after, "0"]}
  lives: {port: none, stop: {grace: 0.3s}, command: [sleep, "1000"]}
"""
PROGRAMS = ("broken", "over", "never", "late-job", "late", "crash", "after")


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[StackUnderTest]:
    folder = tmp_path / "ended"
    folder.mkdir()
    write_stack(folder, ENDED, {"ends.sh": NOTES_AND_ENDS, "waits.sh": WAITS})
    with cautious(folder) as stack:
        yield stack


def words(stack: StackUnderTest) -> dict[str, str]:
    return {s["name"]: s["state"] for s in stack.status()["services"]}


def executions(stack: StackUnderTest) -> dict[str, int]:
    """How often each program ran to its end."""
    files = {name: stack.folder.parent / f"{name}.ran" for name in PROGRAMS}
    return {n: len(f.read_text().splitlines()) for n, f in files.items() if f.exists()}


def assert_followed(stack: StackUnderTest, controller: int) -> None:
    """Another controller has taken over and acts: what it would have started by then has been."""
    eventually(lambda: controllers(stack) not in ([], [controller]), 20)
    stack.devstack("scale", "lives=2")
    eventually(lambda: stack.service("lives")["ready"] == 2, 20)


def test_i01_what_ended_for_good_stays_so_under_the_next_controller(ended: StackUnderTest) -> None:
    settled = {"broken": "failed", "over": "done", "never": "failed", "absent": "failed"}
    ended.devstack("up", "-d", code=None)
    eventually(lambda: settled.items() <= words(ended).items() and is_alive(ended, "lives"), 30)
    before = {s["name"]: s for s in ended.status()["services"]}
    assert executions(ended) == {"broken": 1, "over": 1, "never": 1}
    crew = crew_of(ended)
    crew.kill("controller")

    assert_followed(ended, crew.controller[0])
    after = {s["name"]: s for s in ended.status()["services"]}
    for name in settled:
        kept = ("state", "reason", "last_exit", "warnings", "replicas")
        assert {k: after[name][k] for k in kept} == {k: before[name][k] for k in kept}
    assert executions(ended) == {"broken": 1, "over": 1, "never": 1}


def test_i01_what_ends_while_no_controller_hears_it_has_ended_for_the_next_one(
    ended: StackUnderTest,
) -> None:
    waiting = ("late-job", "late", "crash")
    ended.devstack("up", "-d", code=None)
    eventually(lambda: all(is_alive(ended, name) for name in (*waiting, "lives")), 30)
    identities = [identity_of(ended.pids(name)[0]) for name in waiting]
    crew = crew_of(ended)
    crew.freeze("controller")
    for name in waiting:
        (ended.folder.parent / f"{name}.go").touch()
    eventually(lambda: not any(map(processes.is_running, identities)), 20)
    crew.kill("controller")

    assert_followed(ended, crew.controller[0])
    eventually(lambda: executions(ended).get("after") == 1 and is_alive(ended, "crash"), 20)
    found = {s["name"]: s for s in ended.status()["services"]}
    assert (found["late-job"]["state"], found["late"]["state"]) == ("done", "done")
    assert found["crash"]["last_exit"]["code"] == 7
    assert found["crash"]["replicas"][0]["restarts"] == 1
    ran = executions(ended)
    assert {name: ran[name] for name in (*waiting, "after")} == dict.fromkeys(
        (*waiting, "after"), 1
    )


def test_i01_an_up_that_finds_no_controller_tries_again_what_was_given_up(
    ended: StackUnderTest,
) -> None:
    ended.devstack("up", "-d", code=None)
    eventually(lambda: words(ended)["broken"] == "failed" and is_alive(ended, "lives"), 30)
    lives = ended.pids("lives")
    client = connect(ended.places)
    assert client is not None
    with closing(client):
        client.ask("leave")
    eventually(lambda: not controllers(ended), 10)

    ended.devstack("up", "-d", code=None)
    eventually(lambda: executions(ended)["broken"] == 2, 20)
    assert ended.pids("lives") == lives


def is_alive(stack: StackUnderTest, name: str) -> bool:
    return any(replica["pid"] for replica in stack.service(name)["replicas"])


def controllers(stack: StackUnderTest) -> list[int]:
    """Every process that is a controller of this stack."""
    found = []
    for pid in processes.everything():
        words = processes.read_file(f"/proc/{pid}/cmdline").decode(errors="replace")
        if "devstack.controller" in words and str(stack.folder) in words:
            found.append(pid)
    return found


def assert_one_controller(stack: StackUnderTest) -> None:
    """The one that has the stack; who came second may be on its way out."""
    owner = stack.controller_pid
    eventually(lambda: controllers(stack) == [owner])


@pytest.mark.timeout(600)
def test_i03_of_two_that_start_at_once_exactly_one_has_the_stack(plain: StackUnderTest) -> None:
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    for number in range(ROUNDS):
        waits = ["--wait"] if number % WAIT_EVERY == 0 else []
        ups = [plain.start("up", "-d", *waits, stderr=subprocess.PIPE, **quiet) for _ in range(2)]
        sockets: set[int] = set()
        deadline = time.monotonic() + 60
        while any(up.poll() is None for up in ups):
            assert time.monotonic() < deadline
            if os.path.exists(plain.places.control_socket):
                sockets.add(os.stat(plain.places.control_socket).st_ino)
            time.sleep(0.002)
        sockets.add(os.stat(plain.places.control_socket).st_ino)
        told = [up.communicate()[1].decode() for up in ups]
        assert [up.returncode for up in ups] == [0, 0], told
        assert len(sockets) == 1, "the socket was replaced"
        assert_one_controller(plain)
        assert len(list(runs_in(plain.places.folder))) == 1
        if waits:
            assert sorted(replicas(plain)) == ["a.1#1", "a.2#1", "b.1#1", "c.1#1"]
        plain.devstack("down")
        plain.assert_nothing_left()


def test_i03_a_controller_that_comes_second_ends_with_the_pid_of_the_owner_left_in_place(
    plain: StackUnderTest,
) -> None:
    plain.up()
    owner = plain.controller_pid
    inode = os.stat(plain.places.control_socket).st_ino
    second = subprocess.run(
        [*controller_command(owner)],
        env=plain.environment,
        cwd=plain.folder,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 4
    assert os.stat(plain.places.control_socket).st_ino == inode
    assert plain.controller_pid == owner
    assert Path(plain.places.controller_lock).read_text().strip() == str(owner)


def controller_command(pid: int) -> list[str]:
    """How the controller that runs was started."""
    return processes.read_file(f"/proc/{pid}/cmdline").decode().split("\0")[:-1]
