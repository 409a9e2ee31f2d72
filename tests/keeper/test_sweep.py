"""What is found of a dead run, and what is left alone."""

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.keeper import marks, processes, sweep
from devstack.keeper.places import Places
from tests.support.keepers import make_places, running_keeper
from tests.support.processes import eventually, is_alive

GONE = (1 << 22, 1)
"""A pid and a start time that no process has."""


def dead_run(places: Places, run_id: str = "0000000000-dead") -> marks.Run:
    """The record of a run that started now and whose keeper and warden are gone."""
    me = processes.start_of(os.getpid())
    run = marks.Run(
        places.folder,
        run_id,
        uid=os.geteuid(),
        boot=marks.boot_id(),
        started_at=0.0,
        keeper=(GONE[0], me),
        warden=GONE,
    )
    marks.record_run(run)
    os.close(marks.open_mark(run))
    return run


class Strays:
    """Processes that no keeper owns; they end with the test."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        *argv: str,
        env: dict[str, str] | None = None,
        limit: int | None = None,
        mark: str = "",
    ) -> int:
        def set_limit() -> None:
            if limit is not None:
                hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)[1]
                resource.setrlimit(resource.RLIMIT_MSGQUEUE, (limit, hard))

        descriptors = (os.open(mark, os.O_RDONLY),) if mark else ()
        process = subprocess.Popen(
            argv or ("sleep", "1000"),
            env=env or {},
            preexec_fn=set_limit,
            pass_fds=descriptors,
            start_new_session=True,
        )
        for descriptor in descriptors:
            os.close(descriptor)
        self.started.append(process)
        # the kernel lets go of what `Popen` waits for a moment before a program has its environment
        eventually(lambda: processes.read_file(f"/proc/{process.pid}/cmdline"))
        return process.pid

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def strays() -> Iterator[Strays]:
    made = Strays()
    yield made
    made.end()


def pids(found: list[processes.Process]) -> set[int]:
    return {process.pid for process in found}


def test_each_of_the_three_marks_is_enough(places: Places, strays: Strays) -> None:
    run = dead_run(places)
    assert run.first_limit is not None
    wanted = {
        strays.start(env={"DEVSTACK_RUN": run.run_id}),
        strays.start(mark=run.mark),
        strays.start(limit=run.first_limit),
        strays.start(limit=run.first_limit + marks.BLOCK - 1),
    }

    assert pids(sweep.find_processes(run)) == wanted


def test_what_has_no_mark_or_another_runs_is_left_alone(places: Places, strays: Strays) -> None:
    run = dead_run(places)
    assert run.first_limit is not None
    strays.start()
    strays.start(env={"DEVSTACK_RUN": "another"}, limit=run.first_limit)
    strays.start(limit=run.first_limit + marks.BLOCK)
    strays.start(limit=run.first_limit - 1)

    assert sweep.find_processes(run) == []


def test_a_process_older_than_the_run_is_not_swept_by_its_limit(
    places: Places, strays: Strays
) -> None:
    run = dead_run(places)
    older = strays.start(limit=run.first_limit)
    run.keeper = (run.keeper[0], processes.start_of(older) + 1)

    assert sweep.find_processes(run) == []


def test_a_process_of_another_user_is_not_swept_by_its_limit(
    places: Places, strays: Strays
) -> None:
    run = dead_run(places)
    strays.start(limit=run.first_limit)
    run.uid = os.geteuid() + 1

    assert sweep.find_processes(run) == []


def test_a_living_keepers_processes_are_never_swept(places: Places, runtime_folder: Path) -> None:
    """Even if two runs came to have the same block."""
    other = make_places(runtime_folder, "abcdefabcd")

    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            (living,) = marks.runs_in(places.folder)
            from tests.support.keepers import spec

            await keeper.spawn(spec("a", "env", "-i", "/bin/sleep", "1000"))
            run = dead_run(other)
            run.first_limit = living.first_limit
            run.write()

            assert sweep.find_processes(run) == []
            assert sweep.sweep([places], kill=True) == []
            assert len((await keeper.list()).processes) == 1

    asyncio.run(scenario())


def test_a_service_whose_file_is_named_like_a_keepers_is_swept_all_the_same(
    places: Places, strays: Strays, tmp_path: Path
) -> None:
    run = dead_run(places)
    wanted = set()
    for folder in ("gatekeeper", "keeper", "devstack/keeper"):
        file = tmp_path / folder / "main.py"
        file.parent.mkdir(parents=True)
        file.write_text("import signal; signal.pause()")
        wanted.add(strays.start(sys.executable, str(file), env={"DEVSTACK_RUN": run.run_id}))

    assert pids(sweep.find_processes(run)) == wanted


def test_runs_of_one_user_get_blocks_of_their_own(places: Places, runtime_folder: Path) -> None:
    runs = [dead_run(places, f"run-{n}") for n in range(20)]
    runs += [dead_run(make_places(runtime_folder, f"00000000{n:02}")) for n in range(20)]
    firsts = [run.first_limit for run in runs]

    assert None not in firsts
    assert len(set(firsts)) == 40
    assert all(
        first is not None and first + marks.BLOCK <= marks.highest_limit() for first in firsts
    )


def test_a_sweep_kills_tells_and_forgets(places: Places, strays: Strays) -> None:
    run = dead_run(places)
    pid = strays.start(env={"DEVSTACK_RUN": run.run_id})

    (reported,) = sweep.sweep([places], kill=False)
    assert reported.found == (f"sleep[{pid}]",)
    assert reported.killed == ()
    assert is_alive(pid)

    (swept,) = sweep.sweep([places], kill=True)
    assert swept.killed == (f"sleep[{pid}]",)
    assert swept.found == ()
    eventually(lambda: not is_alive(pid))
    assert str(swept) == (
        f"the last run ended because its keeper and its warden were killed; killed: sleep[{pid}]"
    )
    assert sweep.sweep([places], kill=True) == []
    assert not os.path.exists(run.mark)


def test_i02_a_run_of_another_boot_is_dropped_without_a_look(
    places: Places, strays: Strays
) -> None:
    run = dead_run(places)
    pid = strays.start(limit=run.first_limit)
    run.boot = "00000000-0000-0000-0000-000000000000"
    run.write()

    assert sweep.sweep([places], kill=False) == []
    assert sweep.sweep([places], kill=True) == []
    assert is_alive(pid)
    assert marks.runs_in(places.folder) == []


def test_a_record_that_cannot_be_read_is_no_run(places: Places) -> None:
    Path(places.folder, "run-x.json").write_text("{")
    Path(places.folder, "run-y.json").write_text("[1]")

    assert marks.runs_in(places.folder) == []
    assert sweep.sweep([places], kill=True) == []
