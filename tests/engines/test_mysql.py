"""MariaDB (or MySQL) for real: its data folder, seeds, server and queries."""

import asyncio
import gzip
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pymysql
import pytest

from devstack.engines.base import (
    DataFolder,
    DataVersionMismatch,
    EngineSpec,
    NotReady,
    SeedFailed,
)
from devstack.engines.mysql import Mysql
from devstack.provision.tool import Tool
from tests.engines.conftest import Workshop, run
from tests.support.engines import Server, free_port, running

ENGINE = Mysql()
SPEC = EngineSpec(
    service="orders-db",
    engine="mysql",
    user="shop",
    password='it\'s a "100%" \\secret',
    database="shop_`data%",
)


@pytest.fixture
def tool(tool_of: Callable[[str], Tool]) -> Tool:
    return tool_of("mysql")


def ask(server: Server, query: str, *arguments: object) -> list[tuple[object, ...]]:
    with (
        pymysql.connect(
            host=server.address,
            port=server.port,
            user=server.spec.user,
            password=server.spec.password,
            database=server.spec.database or None,
            autocommit=True,
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query, arguments or None)
        return list(cursor.fetchall())


def test_a_new_folder_serves_its_user_and_database_and_stops_cleanly(
    workshop: Workshop, tool: Tool
) -> None:
    folder = workshop.prepare(ENGINE, SPEC, tool)
    with running(ENGINE, SPEC, folder, workshop.unprivileged, "127.64.3.9") as server:
        rows = ask(server, "SELECT current_user(), database(), @@character_set_server, 'é😀'")
        listeners = server.listeners()
        code = server.stop()

    assert folder.is_new
    assert rows == [("shop@%", "shop_`data%", "utf8mb4", "é😀")]
    assert listeners == {("127.64.3.9", server.port)}
    assert code == 0


def test_no_argument_of_any_program_holds_the_password(workshop: Workshop, tool: Tool) -> None:
    folder = workshop.prepare(ENGINE, SPEC, tool)
    command = ENGINE.command(SPEC, folder, "127.0.0.1", 3306)

    assert not [
        word
        for argv in (*workshop.steps.ran, command.argv)
        for word in argv
        if SPEC.password in word
    ]


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
        for user, password in (
            ("shop", "no"),
            ("shop", ""),
            ("root", ""),
            ("root", SPEC.password),  # through the socket only
            ("", ""),
        ):
            wrong = replace(SPEC, user=user, password=password, database="")
            with pytest.raises(NotReady, match="Access denied"):
                ENGINE.query(wrong, server.address, server.port, 20.0)
        with (
            pytest.raises(pymysql.OperationalError, match="Access denied"),
            pymysql.connect(unix_socket=str(folder.run / "mysql.sock"), user="root"),
        ):
            pass
        with (
            pymysql.connect(
                unix_socket=str(folder.run / "mysql.sock"), user="root", password=SPEC.password
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT user, host FROM mysql.user ORDER BY 1, 2")
            users = [row for row in cursor.fetchall() if not row[0].startswith(("maria", "mysql."))]

    assert users == [("root", "localhost"), ("shop", "%")]


def test_the_user_may_do_all_in_its_database_and_nothing_elsewhere(
    workshop: Workshop, tool: Tool
) -> None:
    spec = replace(SPEC, database="shop_data")
    folder = workshop.prepare(ENGINE, spec, tool)
    with running(ENGINE, spec, folder, workshop.unprivileged) as server:
        ask(server, "CREATE TABLE t (n int)")
        ask(server, "INSERT INTO t VALUES (%s)", 1)
        with pytest.raises(pymysql.OperationalError, match="denied"):
            ask(server, "CREATE DATABASE shopXdata")


def test_root_may_be_the_user_and_there_may_be_no_database(workshop: Workshop, tool: Tool) -> None:
    spec = EngineSpec("db", "mysql", user="root", password="pw")
    folder = workshop.prepare(ENGINE, spec, tool)
    with running(ENGINE, spec, folder, workshop.unprivileged) as server:
        ask(server, "CREATE DATABASE other")
        ask(server, "CREATE USER app IDENTIFIED BY 'x'")


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x01\x00\x00\x00\x0a"]
)
def test_what_is_no_mysql_is_not_ready(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def answer() -> None:
            connection, _ = stranger.accept()
            with connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NotReady):
            ENGINE.query(SPEC, "127.0.0.1", stranger.getsockname()[1], 1.0)
        thread.join()


def test_nobody_listening_is_not_ready() -> None:
    with pytest.raises(NotReady, match=r"^Connection refused$"):
        ENGINE.query(SPEC, "127.0.0.1", free_port(), 1.0)


def test_the_url_carries_every_character_of_a_password() -> None:
    assert ENGINE.url(replace(SPEC, database="d"), "orders-db", 3306) == (
        "mysql://shop:it%27s%20a%20%22100%25%22%20%5Csecret@orders-db:3306/d"
    )


def test_two_prepares_at_once_make_one_folder_from_one_template(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    workshop.templates = tmp_path / "templates"

    async def both() -> list[DataFolder]:
        return await asyncio.gather(
            *(ENGINE.prepare(SPEC, workshop.site(), tool, workshop.steps) for _ in range(2)),
            ENGINE.prepare(SPEC, workshop.site("other"), tool, workshop.steps),
        )

    one, two, other = run(both())
    made = [
        argv
        for argv in workshop.steps.ran
        if "--bootstrap" in argv or "--initialize-insecure" in argv
    ]

    assert one.data_id == two.data_id != other.data_id
    assert sorted([one.is_new, two.is_new]) == [False, True]
    assert len(made) == 1
    assert sorted(path.name for path in (tmp_path / "data").glob("[!.]*")) == ["db", "other"]


def test_all_forms_of_seeds_load_by_name_as_administrator(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    (seeds / "1-table.sql").write_text("CREATE TABLE t (n int, who text DEFAULT current_user());\n")
    (seeds / "2-rows.sql.gz").write_bytes(
        gzip.compress(
            b"DELIMITER //\nCREATE PROCEDURE p() BEGIN INSERT INTO t (n) VALUES (2); END//\nDELIMITER ;\nCALL p();\n"
        )
    )
    (seeds / "3-more.sh").write_text(
        'mysql -uroot -p"$MYSQL_ROOT_PASSWORD" "$MYSQL_DATABASE" -e "INSERT INTO t (n) VALUES (3)"\n'
        'mariadb -uroot -p"$MARIADB_ROOT_PASSWORD" "$MYSQL_DATABASE" -e "INSERT INTO t (n) VALUES (4)"\n'
    )
    (seeds / "4-more.sql").write_text("CREATE DATABASE second; INSERT INTO t (n) VALUES (5);")
    spec = replace(SPEC, seeds=(seeds,))
    folder = workshop.prepare(ENGINE, spec, tool)
    with running(ENGINE, spec, folder, workshop.unprivileged) as server:
        rows = ask(server, "SELECT n, who FROM t ORDER BY n")

    assert rows == [(n, "root@localhost") for n in (2, 3, 4, 5)]
    assert folder.notes == ()


@pytest.mark.parametrize(
    ("name", "content", "line", "said"),
    [
        ("a.sql", "SELECT 1;\n\nINSERT INTO nowhere VALUES (1);\n", 3, "nowhere' doesn't exist"),
        ("a.sql.gz", "SELECT 1;\nSELEKT;\n", 2, "SQL syntax"),
        ("a.sh", "set -e\nmysql -uroot -pno -e 'SELECT 1'\n", 2, "Access denied"),
    ],
)
def test_a_failing_seed_is_told_with_its_line_and_leaves_no_folder(
    workshop: Workshop, tool: Tool, tmp_path: Path, name: str, content: str, line: int, said: str
) -> None:
    seed = tmp_path / name
    seed.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    with pytest.raises(SeedFailed) as failed:
        workshop.prepare(ENGINE, replace(SPEC, seeds=(seed,)), tool)

    assert failed.value.line == line
    assert f"{seed}:{line}: " in failed.value.message
    assert said in failed.value.message
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".db.lock"]


def test_data_of_another_version_is_refused(workshop: Workshop, tool: Tool) -> None:
    workshop.prepare(ENGINE, SPEC, tool)
    with pytest.raises(DataVersionMismatch, match=r"and this is \w+ 11\.4"):
        workshop.prepare(ENGINE, SPEC, replace(tool, version="11.4.2"))
    with pytest.raises(DataVersionMismatch, match="and this is MySQL") as mismatch:
        workshop.prepare(ENGINE, SPEC, replace(tool, product="MySQL"))

    for choice in ("on PATH", "dump it", "devstack reset orders-db"):
        assert choice in mismatch.value.hint


def test_a_row_of_many_megabytes_fits(workshop: Workshop, tool: Tool) -> None:
    folder = workshop.prepare(ENGINE, SPEC, tool)
    with running(ENGINE, SPEC, folder, workshop.unprivileged) as server:
        ask(server, "CREATE TABLE big (b longblob)")
        ask(server, "INSERT INTO big VALUES (%s)", b"x" * (12 << 20))
        assert ask(server, "SELECT length(b) FROM big") == [(12 << 20,)]


def test_a_path_too_long_for_a_socket_and_a_users_flag_work(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    workshop.root = tmp_path / ("deep" * 25)
    spec = replace(SPEC, flags=("--max-connections=17", "--bind-address=0.0.0.0"))
    folder = workshop.prepare(ENGINE, spec, tool)
    with running(ENGINE, spec, folder, workshop.unprivileged) as server:
        assert ask(server, "SELECT @@max_connections, @@socket") == [(17, "mysql.sock")]
        assert server.listeners() == {("127.0.0.1", server.port)}
