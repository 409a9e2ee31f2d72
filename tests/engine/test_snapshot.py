"""What survives the controller: written whole or not at all, read back as it was, dropped when it is not ours."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from devstack.core.events import (
    Artifact,
    Exit,
    Noted,
    PrepareFailed,
    PrepareStarted,
    PrepareSucceeded,
    ReadinessChanged,
    ReplicaAdopted,
    ReplicaDrainRequested,
    ReplicaExited,
    ReplicaSpawned,
    ReplicaStartFailed,
    ReplicaStartRequested,
    ReplicaStopRequested,
    RestartRequested,
    Restored,
    ScaleRequested,
    SourceChanged,
    StackApplied,
    StopRequested,
)
from devstack.core.reduce import reduce
from devstack.core.state import State
from devstack.engine.snapshot import SCHEMA, Snapshot
from tests.engine.kit import database, service, stack_of
from tests.support.processes import eventually
from tests.support.stacks import REPOSITORY

BOOT, RUN = "boot-1", "run-1"


def lived() -> State:
    """A state with something of each kind that is kept."""
    state = State()
    artifact = Artifact("d1", is_compiled=True, notes=("Go 1.22",), warnings=("a stand-in",))
    spawned = partial(ReplicaSpawned, pid=4242, addresses=(("main", "127.0.0.1:11000"),))
    state = reduce(state, StackApplied(stack_of(service("web"), database("db")), (("web", "s1"),)))
    for wish in (RestartRequested("web"), ScaleRequested("web", 3), StopRequested("db")):
        state = reduce(state, wish)
    old = wanted(state)
    for event in (
        PrepareStarted("web", old),
        PrepareSucceeded("web", old, artifact),
        *(ReplicaStartRequested(f"web.{n}#1", "web", n, old, "fill", at=5.0) for n in (1, 2, 3)),
        *(spawned(f"web.{n}#1") for n in (1, 2, 3)),
        ReadinessChanged("web.2#1", ready=True, at=7.5),
        ReplicaExited("web.2#1", Exit(3, tail=("boom", "at line 7"), wall=12.5), at=12.25),
        ReadinessChanged("web.1#1", ready=True, at=20.125),
        ReplicaStopRequested("web.3#1", "not ready within 120 s", is_failure=True),
        Noted("left a daemon behind", "web"),
        SourceChanged("web", "s2"),
    ):
        state = reduce(state, event)
    new = wanted(state)
    for event in (
        PrepareStarted("web", new),
        PrepareSucceeded("web", new, artifact),
        ReplicaStartRequested("web.2#2", "web", 2, new, "a newer revision"),
        ReplicaStartFailed("web.2#2", "no such program", permanent=True, at=30.5),
        ReplicaDrainRequested("web.1#1", "scaled"),
        SourceChanged("web", "s3"),
        PrepareStarted("web", digest_of_newest(state)),
    ):
        state = reduce(state, event)
    return reduce(state, PrepareFailed("web", wanted(state), "app.go:7 no such package"))


def wanted(state: State) -> str:
    revision = state.wanted_revision("web")
    assert revision is not None
    return revision


def digest_of_newest(state: State) -> str:
    return wanted(reduce(state, SourceChanged("web", "s3")))


def reader(path: Path) -> Snapshot:
    return Snapshot(path, BOOT)


def test_what_is_kept_comes_back_through_reduce(tmp_path: Path) -> None:
    before = lived()
    path = tmp_path / "snapshot.json"
    writer = Snapshot(path, BOOT)
    writer.write(before, RUN)

    again = reader(path)
    restored = again.read(RUN)
    state = reduce(State(), StackApplied(stack_of(service("web"), database("db"))))
    for event in restored:
        state = reduce(state, event)

    web = before.of("web")
    assert None not in (web.good, web.desired, web.prepare_error, web.rollout_error)
    assert web.slot(2).newest.blocked == "no such program"
    assert web.slot(2).older.retry_at > 12.25
    for name in ("web", "db"):
        kept = replace(state.of(name), source=before.of(name).source, standings={})
        assert kept == before.of(name)
        assert state.override(name) == before.override(name)


def test_what_is_found_running_goes_on_as_it_stood(tmp_path: Path) -> None:
    before = lived()
    Snapshot(tmp_path / "snapshot.json", BOOT).write(before, RUN)
    state = reduce(State(), StackApplied(stack_of(service("web"), database("db"))))
    for event in reader(tmp_path / "snapshot.json").read(RUN):
        state = reduce(state, event)

    for known in before.replicas.values():
        found = ReplicaAdopted(
            known.id, "web", known.slot, known.revision, 4242, known.addresses, at=99.0
        )
        state = reduce(state, found)

    assert sorted(state.replicas) == ["web.1#1", "web.3#1"]
    for known in before.replicas.values():
        assert replace(state.replicas[known.id], cause=known.cause) == known
    assert not state.of("web").standings


def test_it_is_written_when_something_that_is_kept_has_changed_and_only_then(
    tmp_path: Path,
) -> None:
    path = tmp_path / "snapshot.json"
    state = lived()
    snapshot = Snapshot(path, BOOT)
    snapshot.write(state, RUN)
    path.unlink()

    snapshot.write(replace(state, closing=""), RUN)
    assert not path.exists()

    snapshot.write(reduce(state, ScaleRequested("web", 5)), RUN)
    assert path.exists()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["snapshot.json"]


def test_i02_nothing_of_another_boot_is_taken_over_and_of_another_run_the_wishes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "snapshot.json"
    Snapshot(path, BOOT).write(lived(), RUN)

    assert Snapshot(path, "boot-2").read(RUN) == ()
    assert sorted(reader(path).read("run-2"), key=lambda known: known.service) == [
        Restored(service="db", override_stopped=True),
        Restored(service="web", override_replicas=3),
    ]


def test_without_a_file_nothing_is_restored(tmp_path: Path) -> None:
    assert reader(tmp_path / "snapshot.json").read(RUN) == ()


def whole(tmp_path: Path) -> bytes:
    path = tmp_path / "whole.json"
    Snapshot(path, BOOT).write(lived(), RUN)
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\0" * 512,
        b"\xff\xfe\x00",
        b"{",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b'{"schema": 5, "boot_id": "boot-1", "run": "run-1", "services": []}',
        b'{"schema": 5, "boot_id": "boot-1", "run": "run-1", "services": {"web": 3}}',
    ],
)
def test_i04_garbage_is_set_aside_and_nothing_is_restored(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "snapshot.json"
    path.write_bytes(garbage)
    snapshot = reader(path)

    assert snapshot.read(RUN) == ()

    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("snapshot.bad-")
    assert kept.read_bytes() == garbage


def test_i04_a_file_cut_short_anywhere_is_set_aside(tmp_path: Path) -> None:
    content = whole(tmp_path)
    for length in range(0, len(content) - 1, 97):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / "snapshot.json").write_bytes(content[:length])

        assert reader(folder / "snapshot.json").read(RUN) == ()
        assert [each.name[:13] for each in folder.iterdir()] == ["snapshot.bad-"]


@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, "1", None])
def test_i04_a_file_of_another_schema_is_set_aside(tmp_path: Path, schema: object) -> None:
    path = tmp_path / "snapshot.json"
    path.write_text(json.dumps(json.loads(whole(tmp_path)) | {"schema": schema}))

    assert reader(path).read(RUN) == ()
    assert [each.name[:13] for each in tmp_path.iterdir()] == ["snapshot.bad-"]


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from devstack.core.events import StackApplied
from devstack.core.reduce import reduce
from devstack.core.state import State
from dataclasses import replace
from devstack.engine.snapshot import Snapshot
from tests.engine.kit import service, stack_of
snapshot = Snapshot(Path(sys.argv[2]), "boot-1")
state = reduce(State(), StackApplied(stack_of(service("web"))))
print("writing", flush=True)
for number in range(10**9):
    web = replace(state.of("web"), restart_count=number)
    snapshot.write(replace(state, services={**state.services, "web": web}), "run-1")
"""


def was_written_since(path: Path, wall_ns: int) -> bool:
    return path.exists() and path.stat().st_mtime_ns > wall_ns


def test_i05_a_writer_killed_at_any_time_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(REPOSITORY), str(path)],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
        )
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"writing\n"
            eventually(partial(was_written_since, path, time.time_ns()))
            os.kill(writer.pid, signal.SIGKILL)

        again = reader(path)
        restored = again.read(RUN)
        assert [type(each) for each in restored] == [Restored, Restored]
        assert not list(tmp_path.glob("*.bad-*"))


def test_a_stack_that_is_down_has_no_wishes(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    snapshot = Snapshot(path, BOOT)
    snapshot.write(lived(), RUN)

    snapshot.forget()
    snapshot.forget()

    assert list(tmp_path.iterdir()) == []
