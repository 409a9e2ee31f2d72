"""The process runtime on a real keeper: replicas, steps and exec probes, and what becomes of them."""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from devstack.core.model import (
    ArgvCommand,
    Check,
    Endpoint,
    ExecProbe,
    Kind,
    Service,
    ShellCommand,
    SourceProgram,
    Stop,
)
from devstack.core.template import literal
from devstack.engine.assembly import Engine
from devstack.engine.operations import ProbeTarget
from devstack.engine.probes.prober import ReplicaProber
from devstack.engine.world import LOOK_BYTES, ProcessWorld
from devstack.engines.base import CannotPrepare, NotReady
from devstack.engines.temporary import temporary_server
from devstack.keeper.answers import LeftBehind, LogProblem
from devstack.keeper.errors import KeeperUnreachable
from devstack.keeper.places import Places
from devstack.logs.format import DATA, file_name
from devstack.logs.writer import LogWriter
from devstack.runtimes.base import (
    PrepareFailed,
    ReplicaEnd,
    RuntimeUnavailable,
    StartFailed,
    StartOrder,
)
from devstack.runtimes.process.link import KeeperLink
from devstack.steps import Progress, StepFailed
from tests.runtimes.kit import nothing_to_recover, serving
from tests.support.processes import eventually, eventually_async, is_alive, with_tag

REVISION = "0123456789ab"
SLEEP = "import signal, time; print('up', flush=True); time.sleep(600)"
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(600)"
)


def port_of(address: str) -> int:
    return int(address.removeprefix("127.0.0.1:"))


def service(name: str, *argv: str, port: bool = True) -> Service:
    command = ArgvCommand(tuple(map(literal, argv))) if argv else None
    endpoints = (Endpoint("main", 8080),) if port else ()
    return Service(name, Kind.SERVICE, SourceProgram(None, command), endpoints=endpoints)


def python(name: str, program: str, *words: str) -> Service:
    return service(name, sys.executable, "-I", "-S", "-c", program, *words)


@dataclass
class Bench:
    """An engine's process runtime, its keeper, and the ends it has told."""

    engine: Engine
    ends: list[ReplicaEnd] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    _started: int = 0

    async def start(self, of: Service, slot: int = 1) -> tuple[str, int, str]:
        """Prepare and start a replica; its name, pid and address."""
        artifact = await self.engine.runtime.prepare(of, REVISION)
        self._started += 1
        replica = f"{of.name}.{slot}#{self._started}"
        order = StartOrder(replica, of, slot, REVISION, artifact)
        started = await self.engine.runtime.start(order)
        assert started.pid is not None
        assert abs(started.started_at - time.time()) < 60
        return replica, started.pid, dict(started.addresses).get("main", "")

    def ports_of(self, of: Service) -> tuple[int, ...]:
        """The four ports of its first slot."""
        ((_, ports),) = self.engine.book.slot_ports(of, 1)
        return ports

    async def says(self, replica: str, words: bytes = b"up") -> None:
        target = self.engine.runtime.log_target(replica.partition(".")[0], replica)
        path = Path(target.folder) / file_name(target.name, "log", 0)
        await eventually_async(lambda: path.exists() and words in path.read_bytes(), 20)

    async def end_of(self, replica: str) -> ReplicaEnd:
        found = await eventually_async(lambda: [e for e in self.ends if e.replica == replica], 20)
        assert len(found) == 1
        return found[0]


@asynccontextmanager
async def bench(
    folder: Path, places: Places, *services: Service, leaves: bool = False
) -> AsyncIterator[Bench]:
    """An engine that serves, and what it tells."""
    notices: list[str] = []
    async with serving(folder, places, *services, leaves=leaves, notices=notices) as engine:
        found = Bench(engine, notices=notices)

        async def collect() -> None:
            async for end in engine.runtime.ends():
                found.ends.append(end)

        task = asyncio.create_task(collect())
        try:
            yield found
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


NODE = shutil.which("node")
TELL = """
const told = ["PORT", "MARK", "MODE"].map((name) => `${name}=${process.env[name]}`);
console.log(told.join(" "));
setInterval(() => {}, 1000);
"""


# ── replicas ──────────────────────────────────────────────────────────────────────────────────


def test_a_replica_is_started_with_its_port_and_its_end_is_told_once(
    tmp_path: Path, places: Places
) -> None:
    web = python("web", "import os,time; print('port', os.environ['PORT'], flush=True); " + SLEEP)

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            replica, pid, address = await found.start(web)
            port = port_of(address)
            await found.says(replica, f"port {port}".encode())
            assert found.engine.runtime.ports_of(replica) == {"main": port}

            await found.engine.runtime.stop(replica, Stop("TERM", 10.0))
            end = await found.end_of(replica)
            assert (end.exit.code, end.exit.signal, end.is_loss) == (None, signal.SIGTERM, False)
            assert abs(end.exit.wall - time.time()) < 60
            assert not is_alive(pid)
            # its port may be given out again, and stopping it again is nothing
            assert found.engine.runtime.ports_of(replica) == {}
            await found.engine.runtime.stop(replica, Stop())
            assert port not in found.engine.surroundings._taken
            assert port_of((await found.start(web))[2]) in found.ports_of(web)

    asyncio.run(scenario())


def test_two_replicas_of_a_slot_listen_on_ports_of_their_own(
    tmp_path: Path, places: Places
) -> None:
    web = python("web", SLEEP)

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            addresses = [(await found.start(web))[2] for _ in range(3)]
            assert len(set(addresses)) == 3

    asyncio.run(scenario())


def test_a_replica_deaf_to_term_is_killed_after_its_grace(tmp_path: Path, places: Places) -> None:
    web = python("web", DEAF)

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            replica, _, _ = await found.start(web)
            await found.says(replica)
            begun = time.monotonic()
            await found.engine.runtime.stop(replica, Stop("TERM", 0.3))
            assert (await found.end_of(replica)).exit.signal == signal.SIGKILL
            assert time.monotonic() - begun >= 0.3

    asyncio.run(scenario())


def test_a12_a_missing_program_fails_without_retry(tmp_path: Path, places: Places) -> None:
    web = service("web", "/no/such/program")

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            with pytest.raises(StartFailed, match="cannot start web: ") as failed:
                await found.start(web)
            assert failed.value.permanent
            assert "/no/such/program" in str(failed.value)
            # what it was given is free again
            assert found.engine.surroundings._taken == {}
            assert found.ends == []

    asyncio.run(scenario())


@pytest.mark.skipif(NODE is None, reason="no node on PATH")
@pytest.mark.parametrize(
    "before", ["PORT=3000 MARK=script MODE=script", "cross-env PORT=3000 MARK=script MODE=script"]
)
def test_a_start_script_never_takes_the_assigned_port_and_what_it_replaces_is_told(
    tmp_path: Path, places: Places, before: str
) -> None:
    source = tmp_path / "shop"
    source.mkdir()
    (source / "server.js").write_text(TELL)
    (source / "package.json").write_text(
        json.dumps({"scripts": {"start": f"{before} node server.js"}})
    )
    shop = Service(
        "shop",
        Kind.SERVICE,
        SourceProgram(str(source), None),
        endpoints=(Endpoint("main", 8080),),
        environment=(("MODE", literal("stack file")),),
    )

    async def scenario() -> None:
        async with bench(tmp_path, places, shop) as found:
            replica, _, address = await found.start(shop)
            port = port_of(address)
            await found.says(replica, f"PORT={port} MARK=script MODE=stack file".encode())
            assert found.notices == [
                "MARK from shell is overridden: the start command wins",
                "MODE from the start command is overridden: environment wins",
                f"PORT=3000 of the start command is left out: {port} is assigned",
            ]

    asyncio.run(scenario())


def test_a_service_that_does_not_say_how_it_starts_cannot_be_prepared(
    tmp_path: Path, places: Places
) -> None:
    web = service("web")

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            with pytest.raises(PrepareFailed, match="hint:"):
                await found.engine.runtime.prepare(web, REVISION)

    asyncio.run(scenario())


def test_what_cannot_be_prepared_is_told_with_what_to_do_when_it_is_mended(
    tmp_path: Path, places: Places
) -> None:
    source = tmp_path / "web"
    source.mkdir()
    (source / "app.py").write_text("app = (\n")
    web = replace(service("web"), program=SourceProgram(str(source)))

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            with pytest.raises(PrepareFailed) as failed:
                await found.engine.runtime.prepare(web, REVISION)
            told, hint = str(failed.value).splitlines()
            assert told.startswith("cannot start web: app.py:1: SyntaxError")
            assert hint == "hint: correct that line; then: devstack up -d"

    asyncio.run(scenario())


def test_a_disk_that_takes_nothing_is_a_failure_that_names_the_path(
    tmp_path: Path, places: Places
) -> None:
    """Of the preparation, and of a start that has to prepare again."""
    web = python("web", SLEEP)

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            runtime = found.engine.runtime
            artifact = await runtime.prepare(web, REVISION)
            artifacts = tmp_path / ".devstack" / "state" / "artifacts"
            shutil.rmtree(artifacts)
            artifacts.touch()

            with pytest.raises(PrepareFailed, match=r"^cannot prepare web: /.*/artifacts"):
                await runtime.prepare(web, "another one")
            order = StartOrder("web.1#1", web, 1, "a third one", artifact)
            with pytest.raises(StartFailed, match=r"^cannot start web: /.*/artifacts") as failed:
                await runtime.start(order)
            assert not failed.value.permanent
            assert found.engine.surroundings._taken == {}

    asyncio.run(scenario())


def test_a_command_beside_a_replica_gets_its_environment_and_folder(
    tmp_path: Path, places: Places
) -> None:
    web = python("web", SLEEP)

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            replica, _, address = await found.start(web)
            plan = await found.engine.runtime.exec(replica, ("bash", "-l"))
            assert plan.argv == ("bash", "-l")
            assert plan.environment["PORT"] == address.rpartition(":")[2]
            assert plan.environment["MARK"] == "shell"
            assert plan.cwd == str(tmp_path)
            with pytest.raises(RuntimeUnavailable, match="does not run"):
                await found.engine.runtime.exec("web.1#99", ("bash",))

    asyncio.run(scenario())


def test_what_a_replica_uses_is_told_with_its_children(tmp_path: Path, places: Places) -> None:
    web = python("web", "import subprocess; subprocess.Popen(['sleep', '600']); " + SLEEP)

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            replica, _, _ = await found.start(web)
            await found.says(replica)
            stats = (await found.engine.runtime.stats())[replica]
            assert stats.processes == 2
            assert stats.memory_bytes > 1 << 20
            assert stats.cpu_seconds >= 0

    asyncio.run(scenario())


# ── steps ─────────────────────────────────────────────────────────────────────────────────────


def test_a_step_that_fails_tells_its_code_and_last_lines(tmp_path: Path, places: Places) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, places) as found:
            steps = found.engine.runtime.steps("web", REVISION)
            done = await steps.run(["sh", "-c", "echo $MARK $MORE"], title="x", env={"MORE": "1"})
            assert (done.code, done.output) == (0, b"shell 1\n")

            with pytest.raises(StepFailed) as failed:
                await steps.run(["sh", "-c", "seq 100; echo app.py:12 >&2; exit 3"], title="build")
            assert str(failed.value).startswith("cannot build: sh exited with code 3\n")
            assert failed.value.tail.splitlines()[-2:] == ["100", "app.py:12"]
            assert len(failed.value.tail.splitlines()) == 20

            unchecked = await steps.run(["sh", "-c", "kill -9 $$"], title="x", check=False)
            assert unchecked.code == -signal.SIGKILL
            with pytest.raises(StepFailed, match="cannot look: "):
                await steps.run(["/no/such/tool"], title="look")

    asyncio.run(scenario())


def test_a_slow_step_is_named_while_it_runs_unless_somebody_tells_how_far_it_is(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, places) as found:
            told: list[Progress] = []
            steps = replace(
                found.engine.runtime.steps("web", REVISION),
                tell=lambda _, progress: told.append(progress),
            )
            monkeypatch.setattr("devstack.runtimes.process.steps.SLOW_SECONDS", 60.0)
            await steps.run(["true"], title="be quick")
            monkeypatch.setattr("devstack.runtimes.process.steps.SLOW_SECONDS", 0.2)
            running = asyncio.create_task(
                steps.run(["sh", "-c", "until [ -e go ]; do sleep 0.05; done"], title="build web")
            )
            await eventually_async(lambda: bool(told))
            assert told == [Progress("build web")]
            (steps.folder / "go").touch()
            await running
            assert told == [Progress("build web"), Progress("build web", 1, 1)]

            running = asyncio.create_task(steps.run(["sleep", "0.5"], title="install"))
            await asyncio.sleep(0)  # it has begun
            steps.report(Progress("files", 1, 2))
            await running
            assert told[2:] == [Progress("files", 1, 2)]

    asyncio.run(scenario())


def test_what_the_keeper_notices_is_told_in_words(tmp_path: Path, places: Places) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, places) as found:
            notices = found.engine.link.client.notices
            notices.put_nowait(LeftBehind("web.1#1", "web", ("a[7]",), ("b[8]", "c[9]")))
            notices.put_nowait(LogProblem("/logs/web", "web.1#1", "No space left on device", 12))
            notices.put_nowait(LogProblem("/logs/web", "web.1#1", None, 34))
            await eventually_async(lambda: len(found.notices) == 4)
            assert found.notices == [
                "left behind and killed: a[7]",
                "left behind, and cannot be killed: b[8], c[9]",
                "cannot write logs in /logs/web: No space left on device (12 bytes lost)",
                "logs in /logs/web are written again (34 bytes lost)",
            ]

    asyncio.run(scenario())


def test_a_step_that_takes_too_long_is_killed_with_all_it_started(
    tmp_path: Path, places: Places
) -> None:
    tag = f"tag-{tmp_path.name}-{os.getpid()}"

    async def scenario() -> None:
        async with bench(tmp_path, places) as found:
            steps = found.engine.runtime.steps("web", REVISION)
            script = f"trap '' TERM; : {tag}; sleep 600 & wait"
            with pytest.raises(StepFailed, match=r"not done after 0.3 s"):
                await steps.run(["sh", "-c", script], title="build", timeout_seconds=0.3)
            await eventually_async(lambda: not with_tag(tag))

    asyncio.run(scenario())


def test_a_helper_server_runs_until_it_is_stopped(tmp_path: Path, places: Places) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, places) as found:
            steps = found.engine.runtime.steps("db", REVISION)
            helper = await steps.start(["sleep", "600"], title="serve")
            assert is_alive(helper.pid)
            assert (await helper.stop(signal.SIGTERM)).code == -signal.SIGTERM
            assert not is_alive(helper.pid)

    asyncio.run(scenario())


def test_a_helper_server_that_dies_while_it_is_set_up_is_told_in_its_own_words(
    tmp_path: Path, places: Places
) -> None:
    """Before it is asked for the first time, or in the middle: its end is known before the stop."""

    def not_yet() -> None:
        raise NotReady("connection refused")

    async def scenario() -> None:
        async with bench(tmp_path, places) as found:
            steps = found.engine.runtime.steps("db", REVISION)
            refuses = ["sh", "-c", "echo 'unrecognized parameter \"no_such\"' >&2; exit 3"]
            with pytest.raises(CannotPrepare, match=r"code 3\nunrecognized parameter .no_such."):
                async with temporary_server(
                    steps,
                    refuses,
                    title="set up db",
                    ask=not_yet,
                    stop_signal=signal.SIGTERM,
                    env={},
                    cwd=tmp_path,
                ):
                    raise AssertionError("it was never ready")

            helper = await steps.start(refuses, title="serve")
            assert (await helper.wait()).code == 3
            assert (await helper.stop(signal.SIGTERM)).code == 3

    asyncio.run(scenario())


def test_a_helper_server_of_a_preparation_that_is_cancelled_is_killed_at_once(
    tmp_path: Path, places: Places
) -> None:
    """Some take no TERM while they start, and what they would write is thrown away."""
    deaf = "trap '' TERM; : > ready; while :; do sleep 0.02; done"
    asked = asyncio.Event()

    def not_yet() -> None:
        raise NotReady("it never is")

    async def prepare(found: Bench) -> None:
        async with temporary_server(
            found.engine.runtime.steps("db", REVISION),
            ["sh", "-c", deaf],
            title="set up db",
            ask=not_yet,
            stop_signal=signal.SIGTERM,
            env={},
            cwd=tmp_path,
        ):
            asked.set()

    async def scenario() -> None:
        async with bench(tmp_path, places) as found:
            preparing = asyncio.create_task(prepare(found))
            await eventually_async((tmp_path / "ready").exists)
            preparing.cancel()
            # who asks it politely waits for a minute
            await asyncio.wait({preparing}, timeout=30)
            assert preparing.cancelled()
            assert not asked.is_set()

    asyncio.run(scenario())


def test_a_step_cancelled_at_any_time_leaves_nothing(tmp_path: Path, places: Places) -> None:
    """Also while its start is under way: the keeper has been asked and answers nobody."""
    tag = f"tag-{tmp_path.name}-{os.getpid()}"

    async def scenario() -> None:
        async with bench(tmp_path, places) as found:
            steps = found.engine.runtime.steps("web", REVISION)
            for rounds in (1, 2, 3, 5, 50):
                argv = ["sh", "-c", f": {tag}; sleep 600"]
                running = asyncio.create_task(steps.run(argv, title="build"))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                # the keeper answers in order: what was asked before has happened
                await found.engine.link.client.list()
                await eventually_async(lambda: not with_tag(tag))

    asyncio.run(scenario())


# ── loss and recovery ─────────────────────────────────────────────────────────────────────────


def test_a_killed_keeper_ends_replicas_as_losses_and_the_next_one_works(
    tmp_path: Path, places: Places
) -> None:
    web = python("web", SLEEP)

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            lost: list[str] = []
            again = asyncio.Event()
            found.engine.link.on_lost = lost.append
            found.engine.link.on_found = again.set
            replica, pid, _ = await found.start(web)
            steps = found.engine.runtime.steps("web", REVISION)
            step = asyncio.create_task(steps.run(["sleep", "600"], title="build"))
            helper = await steps.start(["sleep", "600"], title="serve")
            keeper = found.engine.link.client.greeting.pid
            first_run = found.engine.link.run_id

            os.kill(keeper, signal.SIGKILL)

            with pytest.raises(RuntimeUnavailable, match="the keeper"):
                await asyncio.wait_for(step, 20)
            for _ in range(2):
                with pytest.raises(RuntimeUnavailable):
                    await asyncio.wait_for(helper.wait(), 20)
            end = await found.end_of(replica)
            assert end.is_loss
            assert "keeper" in end.exit.message
            assert end.exit.wall > 0
            await asyncio.wait_for(again.wait(), 20)
            assert len(lost) == 1
            assert not is_alive(pid)
            assert not is_alive(helper.pid)
            assert found.engine.link.run_id != first_run

            another, second, same = await found.start(web)
            assert is_alive(second)
            assert port_of(same) in found.ports_of(web)
            assert (await steps.run(["true"], title="x")).code == 0
            await found.engine.runtime.stop(another, Stop())
            assert not (await found.end_of(another)).is_loss

    asyncio.run(scenario())


def test_i01_a_new_controller_finds_what_runs_and_what_ended_meanwhile(
    tmp_path: Path, places: Places
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    command = ArgvCommand(tuple(map(literal, (sys.executable, "-I", "-S", "-c", SLEEP))))
    program = SourceProgram(str(source), command)
    web = Service("web", Kind.SERVICE, program, endpoints=(Endpoint("main", 8080),))
    worker = service("worker", "sleep", "600", port=False)

    async def first() -> tuple[str, int, str, str, int, int]:
        async with bench(tmp_path, places, web, worker, leaves=True) as found:
            replica, pid, address = await found.start(web, slot=2)
            gone, mortal, _ = await found.start(worker)
            steps = found.engine.runtime.steps("web", REVISION)
            helper = await steps.start(["sleep", "600"], title="serve")
            return replica, pid, address, gone, mortal, helper.pid

    async def second(replica: str, pid: int, address: str, gone: str, step: int) -> None:
        async with bench(tmp_path, places, web, worker) as found:
            recovery = await found.engine.runtime.recover()

            (running,) = recovery.running
            assert (running.replica, running.service, running.slot) == (replica, "web", 2)
            assert (running.revision, running.pid) == (REVISION, pid)
            assert running.addresses == (("main", address),)
            assert abs(running.started_at - time.time()) < 120
            (ended,) = recovery.ended
            assert (ended.end.replica, ended.end.exit.signal) == (gone, signal.SIGKILL)
            assert abs(ended.end.exit.wall - time.time()) < 120
            was = ended.replica
            assert (was.replica, was.service, was.slot, was.revision, was.pid) == (
                gone,
                "worker",
                1,
                REVISION,
                None,
            )
            # a step means nothing without the controller that waited for it
            await eventually_async(lambda: not is_alive(step))
            # told again until it is recorded
            (again,) = (await found.engine.runtime.recover()).ended
            assert (again.replica, again.end.exit.signal) == (was, signal.SIGKILL)
            found.engine.runtime.acknowledge()
            await nothing_to_recover(found.engine.runtime, runs=1)

            found.engine.runtime.remember(running, web)
            assert found.engine.runtime.ports_of(replica) == {"main": int(address.split(":")[1])}
            assert (await found.engine.runtime.stats())[replica].processes == 1
            plan = await found.engine.runtime.exec(replica, ("env",))
            assert plan.environment["PORT"] == address.split(":")[1]
            # beside an adopted replica things run as it was started, not as the stack file's folder
            assert plan.cwd == str(source)
            assert not [name for name in plan.environment if name.startswith("DEVSTACK_")]
            world = ProcessWorld(
                found.engine.runtime, found.engine.surroundings, found.engine.nginx
            )
            here = ShellCommand(literal(f'test "$PWD" = {source} && test "$MARK" = shell'))
            assert await world.run(replica, web, here, 20) == ""
            await found.engine.runtime.stop(replica, Stop())
            assert (await found.end_of(replica)).exit.signal == signal.SIGTERM

    replica, pid, address, gone, mortal, step = asyncio.run(first())
    assert is_alive(pid)
    os.kill(mortal, signal.SIGKILL)
    eventually(lambda: not is_alive(mortal))
    asyncio.run(second(replica, pid, address, gone, step))


def test_i01_no_end_is_lost_while_a_new_controller_takes_over(
    tmp_path: Path, places: Places
) -> None:
    """Before it asks what runs, while it is told, and while it ends the steps of the one before."""
    worker = service("worker", "sleep", "600", port=False)

    async def first() -> dict[str, int]:
        async with bench(tmp_path, places, worker, leaves=True) as found:
            steps = found.engine.runtime.steps("worker", REVISION)
            for _ in range(5):
                await steps.start(["sleep", "600"], title="serve")
            started = [await found.start(worker) for _ in range(12)]
            return {replica: pid for replica, pid, _ in started}

    async def second(pids: dict[str, int]) -> None:
        async with bench(tmp_path, places, worker) as found:
            early, late = list(pids)[:4], list(pids)[4:]
            for replica in early:
                os.kill(pids[replica], signal.SIGKILL)
            await eventually_async(lambda: not any(is_alive(pids[one]) for one in early))
            await found.engine.link.client.list()
            for _ in range(20):
                await asyncio.sleep(0)  # whatever was told is sorted
            for replica in late:
                os.kill(pids[replica], signal.SIGKILL)
            recovery = await found.engine.runtime.recover()
            for one in recovery.running:
                found.engine.runtime.remember(one, worker)

            ended = [one.end.replica for one in recovery.ended]
            assert set(early) <= set(ended)
            assert len({*ended, *(one.replica for one in recovery.running)}) == len(pids)
            await eventually_async(lambda: len(ended) + len(found.ends) >= len(pids))
            assert sorted([*ended, *(end.replica for end in found.ends)]) == sorted(pids)

    asyncio.run(second(asyncio.run(first())))


def test_a_replica_that_the_keeper_does_not_know_any_more_is_told_as_lost_when_it_is_stopped(
    tmp_path: Path, places: Places
) -> None:
    """Whatever became of its end: a stack that waits for it would never be down."""

    async def scenario() -> None:
        async with bench(tmp_path, places) as found:
            found.engine.link._replicas.add("web.1#1")

            await found.engine.runtime.stop("web.1#1", Stop())
            assert (await found.end_of("web.1#1")).is_loss
            await found.engine.runtime.stop("web.1#1", Stop())
            assert len(found.ends) == 1

    asyncio.run(scenario())


def test_a03_no_step_has_the_key_of_an_earlier_controllers(places: Places) -> None:
    """The keeper knows that one until it has ended all of it: it would refuse the same key."""
    links = [KeeperLink(places, open_files=None, notice=lambda *_: None) for _ in range(2)]
    keys = [link.step_key("prepare:", "api:1") for link in links for _ in range(2)]
    assert len(set(keys)) == 4
    assert all(key.startswith("prepare:api:1:") for key in keys)


def test_without_a_keeper_a_command_that_may_not_start_one_is_told(
    tmp_path: Path, places: Places
) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, places) as found:
            pass
        with pytest.raises(KeeperUnreachable):
            await found.engine.link.open(may_start=False)

    asyncio.run(scenario())


# ── exec probes ───────────────────────────────────────────────────────────────────────────────


def exec_check(script: str, timeout: float) -> Check:
    return Check(
        ExecProbe(ShellCommand(literal(script))), interval_seconds=0.1, timeout_seconds=timeout
    )


def test_b08_an_exec_probe_is_killed_at_its_time_out_with_all_it_started(
    tmp_path: Path, places: Places
) -> None:
    web = python("web", SLEEP)
    tag = f"tag-{tmp_path.name}-{os.getpid()}"
    stubborn = f"trap '' TERM; : {tag}; (trap '' TERM; : {tag}; sleep 600) & sleep 600"

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            replica, pid, _ = await found.start(web)
            world = ProcessWorld(
                found.engine.runtime, found.engine.surroundings, found.engine.nginx
            )
            probe = exec_check(stubborn, 0.3).probe
            assert isinstance(probe, ExecProbe)
            for _ in range(3):
                reason = await world.run(replica, web, probe.command, 0.3)
                assert reason == "the probe did not end within 0.3 s"
                # nothing of it piles up beside the next one
                await eventually_async(lambda: not with_tag(tag))
            assert is_alive(pid)

    asyncio.run(scenario())


def test_b08_a_probe_that_hangs_is_never_there_twice_and_ends_with_its_replica(
    tmp_path: Path, places: Places
) -> None:
    web = python("web", SLEEP)
    tag = f"tag-{tmp_path.name}-{os.getpid()}"
    most = 0

    async def scenario() -> None:
        nonlocal most
        async with bench(tmp_path, places, web) as found:
            replica, pid, _ = await found.start(web)
            world = ProcessWorld(
                found.engine.runtime, found.engine.surroundings, found.engine.nginx
            )
            prober = ReplicaProber(world)
            serving = asyncio.create_task(prober.serve())
            await asyncio.sleep(0)
            # exec, and no `python3` from PATH, which may be a script: one process for each probe
            program = f"exec {sys.executable} -I -S -c 'import time; time.sleep(600)' {tag}"
            hanging = exec_check(program, 0.4)
            watched = Service(
                "web", Kind.SERVICE, web.program, endpoints=web.endpoints, ready=hanging
            )
            told: list[object] = []
            prober.watch(ProbeTarget(replica, watched, {}, pid), told.append)
            seen: set[int] = set()

            def several() -> bool:
                nonlocal most
                now = {each.pid for each in with_tag(tag)}
                most = max(most, len(now))
                seen.update(now)
                return len(seen) >= 3

            await eventually_async(several, 30)
            prober.forget(replica)
            await eventually_async(lambda: not with_tag(tag))
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving
            assert len(told) == 1

    asyncio.run(scenario())
    assert most == 1


def test_an_exec_probe_sees_what_the_replica_sees(tmp_path: Path, places: Places) -> None:
    web = python("web", SLEEP)

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            replica, _, address = await found.start(web)
            port = address.rpartition(":")[2]
            world = ProcessWorld(
                found.engine.runtime, found.engine.surroundings, found.engine.nginx
            )

            async def ask(script: str) -> str:
                return await world.run(replica, web, ShellCommand(literal(script)), 20)

            assert await ask(f'test "$PORT" = {port} && test "$PWD" = {tmp_path}') == ""
            assert await ask("echo not yet; exit 4") == "the probe ended with code 4: not yet"
            missing = ArgvCommand((literal("/no/such/probe"),))
            told = await world.run(replica, web, missing, 20)
            assert told.startswith("the probe cannot be started: ")
            gone = await world.run("web.1#99", web, ShellCommand(literal("true")), 20)
            assert gone == "it is not running"

    asyncio.run(scenario())


def test_a_line_in_the_log_is_found_across_reads(tmp_path: Path, places: Places) -> None:
    web = python(
        "web", "import sys; [print(l, flush=True) for l in ('one', 'listening on 7')]; " + SLEEP
    )

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            replica, _, _ = await found.start(web)
            world = ProcessWorld(
                found.engine.runtime, found.engine.surroundings, found.engine.nginx
            )
            await eventually_async(lambda: world.log_has(replica, web, r"^listening on \d+$"), 20)
            assert not world.log_has(replica, web, "^on 7")
            assert not world.log_has("web.1#99", web, "one")

    asyncio.run(scenario())


def test_a_line_is_found_where_the_quota_has_removed_what_was_written_before(
    tmp_path: Path, places: Places
) -> None:
    web = service("web", "sleep", "600", port=False)

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            world = ProcessWorld(
                found.engine.runtime, found.engine.surroundings, found.engine.nginx
            )
            target = found.engine.runtime.log_target("web", "web.1#1")
            log = LogWriter(target.folder, target.name, rotate_bytes=4096, quota_bytes=16384)
            log.append(b"first\n")
            assert not world.log_has("web.1#1", web, "^listening")
            for _ in range(64):
                log.append(b"x" * 1023 + b"\n")
            log.append(b"listening on 7\n")
            log.close()
            assert not (Path(target.folder) / file_name(target.name, DATA, 0)).exists()

            # of each file that is left in a look of its own
            assert any(world.log_has("web.1#1", web, "^listening") for _ in range(8))

    asyncio.run(scenario())


@asynccontextmanager
async def log_of_web(
    folder: Path, places: Places
) -> AsyncIterator[tuple[LogWriter, Callable[[str], bool]]]:
    """The log of a replica, to be written by the test, and one look for a pattern in it."""
    web = service("web", "sleep", "600", port=False)
    async with bench(folder, places, web) as found:
        world = ProcessWorld(found.engine.runtime, found.engine.surroundings, found.engine.nginx)
        target = found.engine.runtime.log_target("web", "web.1#1")
        log = LogWriter(target.folder, target.name)
        yield log, lambda pattern: world.log_has("web.1#1", web, pattern)
        log.close()


def test_a_look_at_a_log_reads_a_part_and_the_next_goes_on_from_there(
    tmp_path: Path, places: Places
) -> None:
    """A service may write faster than its lines can be searched, and all else waits for a look."""

    async def scenario() -> None:
        async with log_of_web(tmp_path, places) as (log, has):
            log.append(b"some words\n" * (3 * LOOK_BYTES // 11) + b"listening on 7\n")

            looks = 1
            while not has(r"^listening on \d$"):
                looks += 1
            assert looks == 4

    asyncio.run(scenario())


@pytest.mark.parametrize("before", [b"x" * (LOOK_BYTES - 5), b"98 %\r" * (LOOK_BYTES // 5)])
def test_a_match_that_two_looks_read_is_found_however_long_its_line(
    tmp_path: Path, places: Places, before: bytes
) -> None:
    async def scenario() -> None:
        async with log_of_web(tmp_path, places) as (log, has):
            log.append(before + b"listening on 7")

            assert not has(r"listening on \d")
            assert has(r"listening on \d")

    asyncio.run(scenario())


@pytest.mark.parametrize("unit", [b"x", b"98 %\r"])
def test_a_line_without_an_end_costs_no_more_the_longer_it_is(
    tmp_path: Path, places: Places, unit: bytes
) -> None:
    async def scenario() -> None:
        async with log_of_web(tmp_path, places) as (log, has):
            log.append(unit * (4 * LOOK_BYTES // len(unit)))

            tracemalloc.start()
            for _ in range(5):
                assert not has(".*listening on")
            kept, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert kept < LOOK_BYTES // 4

    asyncio.run(scenario())


# ── what prepare made ─────────────────────────────────────────────────────────────────────────


def from_source(name: str, source: Path) -> Service:
    source.mkdir()
    (source / "main.py").write_text("if __name__ == '__main__':\n    print(0)\n")
    return Service(name, Kind.SERVICE, SourceProgram(str(source)))


def kept_of(folder: Path) -> tuple[list[str], list[str]]:
    """Revisions with a record, and services with a folder of compiled files, each once for each."""
    artifacts = folder / ".devstack" / "state" / "artifacts"
    build = folder / ".devstack" / "build"
    return (
        sorted(file.stem for file in artifacts.iterdir()),
        sorted(entry.name.rpartition("-")[0] for entry in build.iterdir()),
    )


def test_only_what_revisions_in_use_need_is_kept_of_what_prepare_made(
    tmp_path: Path, places: Places
) -> None:
    web, other = from_source("web", tmp_path / "web"), from_source("other", tmp_path / "other")

    async def scenario() -> None:
        async with bench(tmp_path, places, web, other) as found:
            await found.engine.runtime.prepare(other, "r1")
            for number in (1, 2, 3):
                (tmp_path / "web" / "main.py").write_text(
                    f"if __name__ == '__main__':\n    print({number})\n"
                )
                await found.engine.runtime.prepare(web, f"r{number}")
            (tmp_path / ".devstack" / "build" / ".making-go-1-abandoned").mkdir()
            sources = found.engine.sources

            await sources.discard_unused({"web": {"r1", "r3"}, "db": {"r1"}})
            assert kept_of(tmp_path) == (
                ["other-r1", "web-r1", "web-r3"],
                ["pycache-other", "pycache-web", "pycache-web"],
            )

            await sources.discard_unused({"web": {"r3"}})
            assert kept_of(tmp_path) == (
                ["other-r1", "web-r3"],
                ["pycache-other", "pycache-web"],
            )
            artifact = await found.engine.runtime.prepare(web, "r3")
            order = StartOrder("web.1#1", web, 1, "r3", artifact)
            launch = await sources.launch(order, found.engine.runtime.steps("web", "r3"))
            (kept,) = (tmp_path / ".devstack" / "build").glob("pycache-web-*")
            assert launch.env["PYTHONPYCACHEPREFIX"] == str(kept)

    asyncio.run(scenario())


def test_installed_packages_stay_for_two_weeks_after_their_last_use(
    tmp_path: Path, places: Places
) -> None:
    """So that going back to another branch costs nothing."""
    web = from_source("web", tmp_path / "web")
    deps = tmp_path / ".devstack" / "deps"
    long_ago = time.time() - 15 * 24 * 3600

    def need(revision: str, name: str) -> None:
        """The record of a revision says that it runs with this folder."""
        record = tmp_path / ".devstack" / "state" / "artifacts" / f"web-{revision}.json"
        raw = json.loads(record.read_text())
        raw["paths"].append(str(deps / name / "bin"))
        record.write_text(json.dumps(raw))

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            for name in ("in-use", "let-go", "forgotten", "another-branch", ".making-node-1-x"):
                (deps / name / "bin").mkdir(parents=True)
                if name != "another-branch":
                    os.utime(deps / name, (long_ago, long_ago))
            for revision, name in (("r1", "let-go"), ("r2", "in-use")):
                await found.engine.runtime.prepare(web, revision)
                need(revision, name)

            (deps / "to-nowhere").symlink_to(tmp_path / "nowhere")
            await found.engine.sources.discard_unused({"web": {"r2"}})
            (deps / "to-nowhere").unlink()
            assert sorted(os.listdir(deps)) == ["another-branch", "in-use", "let-go"]

            os.utime(deps / "let-go", (long_ago, long_ago))
            await found.engine.sources.discard_unused({"web": {"r2"}})
            assert sorted(os.listdir(deps)) == ["another-branch", "in-use"]

    asyncio.run(scenario())


def test_where_a_record_cannot_be_read_nothing_that_it_may_need_is_removed(
    tmp_path: Path, places: Places
) -> None:
    web = from_source("web", tmp_path / "web")

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            await found.engine.runtime.prepare(web, "r1")
            record = tmp_path / ".devstack" / "state" / "artifacts" / "web-r1.json"
            record.write_text("")

            await found.engine.sources.discard_unused({"web": {"r1"}})

            assert kept_of(tmp_path) == (["web-r1"], ["pycache-web"])

    asyncio.run(scenario())


def test_a_folder_that_cannot_be_written_is_a_failed_preparation_with_the_reason(
    tmp_path: Path, places: Places
) -> None:
    web = from_source("web", tmp_path / "web")

    async def scenario() -> None:
        async with bench(tmp_path, places, web) as found:
            (tmp_path / ".devstack" / "build").write_text("in the way")

            with pytest.raises(
                PrepareFailed, match=r"cannot prepare web: .*build.*: Not a directory"
            ):
                await found.engine.runtime.prepare(web, "r1")
            assert not found.engine.sources.is_preparing

    asyncio.run(scenario())
