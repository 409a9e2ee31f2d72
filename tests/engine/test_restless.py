"""A source that is written to all the time keeps nobody from being started, and is told."""

import asyncio
import itertools
import os
from pathlib import Path

from devstack.core import events as e
from devstack.core.model import Kind, Service, SourceProgram
from devstack.engine.restless import Restless, restless_text
from tests.engine.test_controller_on_fakes import running
from tests.support.history import worker


def test_a_source_that_never_keeps_still_is_started_and_scaled_all_the_same() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.replicas.digests = map(str, itertools.count())
            bench.apply(worker())
            await bench.ready("worker", 1)
            bench.controller.post(e.ScaleRequested("worker", 3))
            state = await bench.ready("worker", 3)

            assert any("source changes" in text for text in state.of("worker").warnings)

    asyncio.run(run())


def test_what_was_edited_during_a_start_is_prepared_first() -> None:
    async def run() -> None:
        async with running() as bench:
            bench.replicas.digests = itertools.chain(["first"], itertools.repeat("second"))
            bench.apply(worker())
            state = await bench.ready("worker", 1)

            assert state.of("worker").source == "second"
            assert state.of("worker").warnings == ()

    asyncio.run(run())


def test_a_start_waits_twice_and_again_for_a_source_that_kept_still_since() -> None:
    sources = Restless()

    found = [sources.keeps_changing("web", 1, digest) for digest in ("a", "b", "c", "d", "d")]
    elsewhere = sources.keeps_changing("web", 2, "e")
    sources.keeps_changing("web", 1, "f")
    sources.is_as_prepared("web", 1)
    afterwards = [sources.keeps_changing("web", 1, digest) for digest in ("g", "h", "i")]

    assert found == [False, False, True, True, False]
    assert not elsewhere
    assert afterwards == [False, False, True]


def test_the_file_that_was_written_last_is_named_and_how_it_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, written in (("main.py", 1), ("data/db.json", 3), ("ignored.json", 4)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (written, written))
    (tmp_path / ".gitignore").write_text("ignored.json\n")
    os.utime(tmp_path / ".gitignore", (2, 2))
    web = Service("web", Kind.SERVICE, SourceProgram(str(tmp_path)))

    assert restless_text(web) == (
        "its source changes while it starts: data/db.json was written last; "
        f"name it in {tmp_path}/.gitignore, or have it written elsewhere"
    )
    without = Service("web", Kind.SERVICE, SourceProgram(None))
    assert restless_text(without) == "its source changes while it starts: it is started as it is"
