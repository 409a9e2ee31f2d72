"""PostgreSQL for real: its data folder, seeds, server and queries."""

import asyncio
import gzip
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from devstack.engines.base import (
    CannotPrepare,
    DataFolder,
    DataVersionMismatch,
    EngineSpec,
    NotReady,
    SeedFailed,
)
from devstack.engines.postgres import Postgres
from devstack.keeper import processes
from devstack.provision.tool import Tool
from tests.engines.conftest import Workshop, run
from tests.support.engines import (
    Server,
    assert_no_process_in,
    free_port,
    processes_in,
    running,
)
from tests.support.processes import eventually_async

ENGINE = Postgres()
SPEC = EngineSpec(
    service="auth-db",
    engine="postgres",
    user="shop",
    password='it\'s a "secret"',
    database="shop data",
)


@pytest.fixture
def tool(tool_of: Callable[[str], Tool]) -> Tool:
    return tool_of("postgres")


def ask(server: Server, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(
        host=server.address,
        port=server.port,
        user=server.spec.user,
        password=server.spec.password,
        dbname=server.spec.database,
    ) as connection:
        cursor = connection.execute(query)
        return list(cursor.fetchall()) if cursor.description else []


def seeded(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "seeds"
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def test_a_new_folder_serves_its_user_and_database_and_stops_cleanly(
    workshop: Workshop, tool: Tool
) -> None:
    folder = workshop.prepare(ENGINE, SPEC, tool)
    with running(ENGINE, SPEC, folder, workshop.unprivileged, "127.64.3.7") as server:
        rows = ask(server, "SELECT current_user, current_database()")
        listeners = server.listeners()
        code = server.stop()

    assert folder.is_new
    assert rows == [("shop", "shop data")]
    assert listeners == {("127.64.3.7", server.port)}
    assert code == 0
    assert not (folder.files / "postmaster.pid").exists()


def test_no_argument_of_any_program_holds_the_password(workshop: Workshop, tool: Tool) -> None:
    folder = workshop.prepare(ENGINE, SPEC, tool)
    command = ENGINE.command(SPEC, folder, "127.0.0.1", 5432)

    assert not [argv for argv in (*workshop.steps.ran, command.argv) if SPEC.password in argv]


def test_what_was_acknowledged_survives_a_kill(workshop: Workshop, tool: Tool) -> None:
    folder = workshop.prepare(ENGINE, SPEC, tool)
    with running(ENGINE, SPEC, folder, workshop.unprivileged) as server:
        ask(server, "CREATE TABLE kept (n int)")
        for number in range(20):
            ask(server, f"INSERT INTO kept VALUES ({number})")
        server.kill()
    again = workshop.prepare(ENGINE, SPEC, tool)
    with running(ENGINE, SPEC, again, workshop.unprivileged) as server:
        rows = ask(server, "SELECT count(*) FROM kept")

    assert rows == [(20,)]
    assert not again.is_new
    assert again.data_id == folder.data_id


def test_a_wrong_password_is_refused_also_for_the_administrator(
    workshop: Workshop, tool: Tool
) -> None:
    folder = workshop.prepare(ENGINE, SPEC, tool)
    with running(ENGINE, SPEC, folder, workshop.unprivileged) as server:
        for wrong in (replace(SPEC, password="no"), replace(SPEC, user="postgres", password="x")):
            with pytest.raises(NotReady, match=r"^password authentication failed for user"):
                ENGINE.query(wrong, server.address, server.port, 20.0)


def test_nobody_listening_is_not_ready() -> None:
    with pytest.raises(NotReady, match=r"^Connection refused$"):
        ENGINE.query(SPEC, "127.0.0.1", free_port(), 1.0)


def test_the_url_carries_every_character_of_a_password() -> None:
    assert ENGINE.url(SPEC, "auth-db", 5432) == (
        "postgresql://shop:it%27s%20a%20%22secret%22@auth-db:5432/shop%20data"
    )


def test_the_administrator_may_be_the_user(workshop: Workshop, tool: Tool) -> None:
    spec = EngineSpec("db", "postgres", user="postgres", password="pw", database="postgres")
    folder = workshop.prepare(ENGINE, spec, tool)
    with running(ENGINE, spec, folder, workshop.unprivileged) as server:
        assert ask(server, "SELECT current_user") == [("postgres",)]


def test_the_second_folder_is_cloned_and_not_made_again(workshop: Workshop, tool: Tool) -> None:
    workshop.prepare(ENGINE, SPEC, tool, "one")
    workshop.steps.ran.clear()
    began = time.monotonic()
    second = workshop.prepare(ENGINE, SPEC, tool, "two")
    print(f"clone and set up: {time.monotonic() - began:.2f} s")
    made = [Path(argv[0]).name for argv in workshop.steps.ran]
    workshop.steps.ran.clear()
    third = workshop.prepare(ENGINE, SPEC, tool, "two")

    assert made == ["cp", "postgres"]
    assert workshop.steps.ran == []
    assert third.data_id == second.data_id


def test_two_prepares_at_once_make_one_folder(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    workshop.templates = tmp_path / "templates"

    async def both() -> list[DataFolder]:
        return await asyncio.gather(
            *(ENGINE.prepare(SPEC, workshop.site(), tool, workshop.steps) for _ in range(2)),
            ENGINE.prepare(SPEC, workshop.site("other"), tool, workshop.steps),
        )

    one, two, other = run(both())

    assert one.data_id == two.data_id != other.data_id
    assert sorted([one.is_new, two.is_new]) == [False, True]
    assert [Path(argv[0]).name for argv in workshop.steps.ran].count("initdb") == 1
    assert sorted(path.name for path in (tmp_path / "data").glob("[!.]*")) == ["db", "other"]


def test_a_cancelled_prepare_leaves_nothing_and_the_next_one_works(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    seeds = seeded(tmp_path, slow__sql="SELECT pg_sleep(60);")
    spec = replace(SPEC, seeds=(seeds,))

    def is_psql(pid: int) -> bool:
        return processes.read_file(f"/proc/{pid}/comm") == b"psql\n"

    async def cancelled() -> None:
        making = asyncio.create_task(ENGINE.prepare(spec, workshop.site(), tool, workshop.steps))
        # cancelled before that it would be the start of psql that is cut short
        await eventually_async(lambda: any(map(is_psql, processes_in(tmp_path))), 30)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making

    run(cancelled())
    left = [path.name for path in (tmp_path / "data").iterdir()]
    folder = workshop.prepare(ENGINE, SPEC, tool)

    assert left == [".db.lock"]
    assert folder.is_new


def test_what_a_killed_prepare_left_is_removed(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    half = tmp_path / "data" / ".db.new-0badcafe"
    half.mkdir(parents=True)
    (half / "stamp.json").write_text("{")
    folder = workshop.prepare(ENGINE, SPEC, tool)

    assert folder.is_new
    assert not half.exists()


def test_all_forms_of_seeds_load_by_name_as_administrator(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    seeds = seeded(
        tmp_path,
        **{
            "1-table__sql": "CREATE TABLE t (n int, who text DEFAULT current_user);\n",
            "3-more__sh": 'psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" '
            '--dbname "$POSTGRES_DB" -c "INSERT INTO t VALUES (3)"\n',
            "4-role__sql": "CREATE ROLE helper;\n\\connect template1\nSELECT 1;\n",
            "README__md": "not a seed",
        },
    )
    with gzip.open(seeds / "2-rows.sql.gz", "wt") as out:
        out.write("COPY t (n) FROM stdin;\n1\n2\n\\.\n")
    script = seeds / "5-run.sh"
    script.write_text("#!/bin/sh\npsql -c 'INSERT INTO t VALUES (5)'\n")
    script.chmod(0o755)
    single = tmp_path / "last.sql"
    single.write_text("INSERT INTO t SELECT count(*) * 100 FROM t;")
    spec = replace(SPEC, seeds=(seeds, single))
    folder = workshop.prepare(ENGINE, spec, tool)
    with running(ENGINE, spec, folder, workshop.unprivileged) as server:
        rows = ask(server, "SELECT n, who FROM t ORDER BY n")

    assert rows == [(n, "shop") for n in (1, 2, 3, 5, 400)]
    assert folder.notes == ("auth-db: seed README.md ignored, not .sql, .sql.gz or .sh",)


@pytest.mark.parametrize(
    ("name", "content", "line", "said"),
    [
        ("a.sql", "SELECT 1;\n\nINSERT INTO nowhere VALUES (1);\n", 3, 'relation "nowhere"'),
        ("a.sql.gz", "SELECT 1;\nSELEKT;\n", 2, "syntax error"),
        ("a.sh", "set -e\necho fine\nls /nowhere-at-all\n", 3, "/nowhere-at-all"),
        ("a.sql", "\nCREATE EXTENSION nothere;\n", 2, "nothere"),
    ],
)
def test_a_failing_seed_is_told_with_its_line_and_leaves_no_folder(
    workshop: Workshop, tool: Tool, tmp_path: Path, name: str, content: str, line: int, said: str
) -> None:
    seed = tmp_path / name
    if name.endswith(".gz"):
        seed.write_bytes(gzip.compress(content.encode()))
    else:
        seed.write_text(content)
    with pytest.raises(SeedFailed) as failed:
        workshop.prepare(ENGINE, replace(SPEC, seeds=(seed,)), tool)

    assert failed.value.line == line
    assert failed.value.file == seed
    assert f"{seed}:{line}: " in failed.value.message
    assert said in failed.value.message
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".db.lock"]


def test_a_seed_of_another_kind_or_nowhere_is_refused(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    (tmp_path / "a.js").write_text("")
    for name, said in (("a.js", "is not .sql"), ("b.sql", "is not there")):
        with pytest.raises(SeedFailed, match=said):
            workshop.prepare(ENGINE, replace(SPEC, seeds=(tmp_path / name,)), tool)


def test_extensions_are_created(workshop: Workshop, tool: Tool) -> None:
    spec = replace(SPEC, extensions=("pg_trgm", "earthdistance"))
    folder = workshop.prepare(ENGINE, spec, tool)
    with running(ENGINE, spec, folder, workshop.unprivileged) as server:
        rows = ask(server, "SELECT extname FROM pg_extension ORDER BY 1")

    assert rows == [("cube",), ("earthdistance",), ("pg_trgm",), ("plpgsql",)]


def test_a_missing_extension_is_named_before_anything_starts(
    workshop: Workshop, tool: Tool
) -> None:
    with pytest.raises(CannotPrepare, match='"postgis" is not part of PostgreSQL') as refused:
        workshop.prepare(ENGINE, replace(SPEC, extensions=("pg_trgm", "postgis")), tool)

    assert workshop.steps.ran == []
    assert "put it on PATH" in refused.value.hint


def test_data_of_another_major_version_or_product_is_refused(
    workshop: Workshop, tool: Tool
) -> None:
    folder = workshop.prepare(ENGINE, SPEC, tool)
    stamp = folder.path / "stamp.json"
    older = replace(tool, version="15.2")
    with pytest.raises(DataVersionMismatch) as mismatch:
        workshop.prepare(ENGINE, SPEC, older)
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "product": "Other"}))
    with pytest.raises(DataVersionMismatch, match=r"made by Other 18, and this is PostgreSQL 18"):
        workshop.prepare(ENGINE, SPEC, tool)

    assert "made by PostgreSQL 18, and this is PostgreSQL 15" in mismatch.value.message
    for choice in ('`version: "18"`', "dump it", "devstack reset auth-db"):
        assert choice in mismatch.value.hint


def test_a_folder_without_stamp_is_not_touched(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    (tmp_path / "data" / "db").mkdir(parents=True)
    (tmp_path / "data" / "db" / "mine").touch()
    with pytest.raises(CannotPrepare, match="no stamp"):
        workshop.prepare(ENGINE, SPEC, tool)

    assert (tmp_path / "data" / "db" / "mine").exists()


def test_a_changed_password_is_noted_not_applied(workshop: Workshop, tool: Tool) -> None:
    workshop.prepare(ENGINE, SPEC, tool)
    same = workshop.prepare(ENGINE, SPEC, tool)
    changed = workshop.prepare(ENGINE, replace(SPEC, password="new", user="new"), tool)

    assert same.notes == ()
    assert "user and password changed" in changed.notes[0]
    assert "new," not in changed.notes[0]


def test_a_lock_file_whose_pid_is_somebody_elses_does_not_keep_it_from_starting(
    workshop: Workshop, tool: Tool
) -> None:
    folder = workshop.prepare(ENGINE, SPEC, tool)
    with running(ENGINE, SPEC, folder, workshop.unprivileged) as server:
        server.kill()
    assert_no_process_in(folder.path)
    locks = [folder.files / "postmaster.pid", *folder.run.glob(".s.PGSQL.*.lock")]
    assert len(locks) == 2
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        for lock in locks:
            lines = lock.read_text().splitlines()
            lock.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        with running(ENGINE, SPEC, folder, workshop.unprivileged) as server:
            assert server.stop() == 0
    finally:
        stranger.kill()
        stranger.wait()


def test_a_users_flag_beats_ours_but_not_where_it_listens(workshop: Workshop, tool: Tool) -> None:
    flags = ("-c", "shared_buffers=16MB", "-c", "listen_addresses=*", "-c", "max_connections=7")
    spec = replace(SPEC, flags=flags)
    folder = workshop.prepare(ENGINE, spec, tool)
    with running(ENGINE, spec, folder, workshop.unprivileged) as server:
        shown = [ask(server, f"SHOW {name}")[0][0] for name in ("shared_buffers", "fsync")]
        listeners = server.listeners()

    assert shown == ["16MB", "on"]
    assert listeners == {("127.0.0.1", server.port)}


def test_a_path_too_long_for_a_socket_has_none_and_works(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    workshop.root = tmp_path / ("deep" * 25)
    folder = workshop.prepare(ENGINE, SPEC, tool)
    with running(ENGINE, SPEC, folder, workshop.unprivileged) as server:
        assert ask(server, "SHOW unix_socket_directories") == [("",)]
