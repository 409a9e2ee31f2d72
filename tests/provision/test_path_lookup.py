"""What is on PATH is used where it fits, and named with the reason where it does not."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devstack.provision import Settings, Tool, ToolUnavailable, find_tool

Make = Callable[[str, str], Path]


def find(name: str, steps: Any, settings: Settings, wanted: str | None = None) -> Tool:
    return asyncio.run(find_tool(name, wanted=wanted, steps=steps, settings=settings))


@pytest.fixture
def offline(settings: Settings, tmp_path: Path) -> Settings:
    """PATH is one folder; nothing can be fetched."""
    environment = {"HOME": str(tmp_path)}
    path = str(tmp_path / "bin")
    return replace(settings, offline=True, path=path, environment=environment)


@pytest.mark.parametrize(
    ("name", "program", "answer", "version", "product"),
    [
        ("nats", "nats-server", "nats-server: v2.10.29", "2.10.29", "NATS"),
        ("go", "go", "go version go1.26.8 linux/amd64", "1.26.8", "Go"),
        ("mongodb", "mongod", "db version v7.0.5\nBuild Info: {", "7.0.5", "MongoDB"),
        ("uv", "uv", "uv 0.13.9 (x86_64-unknown-linux-gnu)", "0.13.9", "uv"),
        (
            "mysql",
            "mysqld",
            "/usr/sbin/mysqld  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)",
            "8.0.36",
            "MySQL",
        ),
    ],
)
def test_a_program_on_path_is_asked_for_its_version_and_used(
    make_program: Make,
    steps: Any,
    offline: Settings,
    name: str,
    program: str,
    answer: str,
    version: str,
    product: str,
) -> None:
    path = make_program(program, answer)

    tool = find(name, steps, offline)

    assert (tool.version, tool.product, tool.origin) == (version, product, "PATH")
    assert tool.binaries[program] == path
    assert not tool.is_stand_in


@pytest.mark.parametrize(
    ("name", "program", "answer", "reason"),
    [
        ("go", "go", "go version go1.19.8 linux/amd64", "go is 1.19.8, older than 1.22"),
        ("nats", "nats-server", "nats-server: v2.7.4", "nats-server is 2.7.4, older than 2.9"),
        ("mongodb", "mongod", "db version v4.2.1", "mongod is 4.2.1, older than 4.4"),
        ("postgres", "postgres", "postgres (PostgreSQL) 15.18", "has no initdb beside it"),
        ("postgres", "psql", "psql (PostgreSQL) 15.18", "cannot bring postgres"),
        ("node", "node", "v22.1.0", "has no npm beside it"),
        ("go", "go", "something else", "does not say that it is go"),
    ],
)
def test_a_program_that_does_not_fit_is_named_with_the_reason(
    make_program: Make,
    steps: Any,
    offline: Settings,
    name: str,
    program: str,
    answer: str,
    reason: str,
) -> None:
    make_program(program, answer)

    with pytest.raises(ToolUnavailable) as failure:
        find(name, steps, offline)

    assert reason in str(failure.value)
    assert failure.value.hint


def test_a_database_client_is_not_a_server(
    make_program: Make, steps: Any, offline: Settings
) -> None:
    make_program("psql", "psql (PostgreSQL) 18.1")

    with pytest.raises(ToolUnavailable, match="offline"):
        find("postgres", steps, offline)

    assert steps.ran == []


def test_postgres_needs_its_initdb_and_finds_its_companions_behind_a_link(
    make_program: Make, steps: Any, offline: Settings, tmp_path: Path
) -> None:
    real = make_program("lib/postgresql/17/bin/postgres", "postgres (PostgreSQL) 17.4")
    make_program("lib/postgresql/17/bin/initdb", "initdb (PostgreSQL) 17.4")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "postgres").symlink_to(real)

    tool = find("postgres", steps, offline, "17")

    assert tool.version == "17.4"
    assert tool.binaries["postgres"] == tmp_path / "bin" / "postgres"
    assert tool.binaries["initdb"] == real.parent / "initdb"
    assert tool.root == tmp_path / "lib/postgresql/17"


def test_the_first_entry_of_path_that_fits_is_taken(
    make_program: Make, steps: Any, offline: Settings, tmp_path: Path
) -> None:
    make_program("old/go", "go version go1.19.8 linux/amd64")
    new = make_program("new/go", "go version go1.25.1 linux/amd64")
    path = f"{tmp_path}/old::relative:{tmp_path}/new"

    assert find("go", steps, replace(offline, path=path)).binaries["go"] == new


def test_a_wanted_version_that_path_has_not_is_asked_elsewhere(
    make_program: Make, steps: Any, offline: Settings
) -> None:
    make_program("postgres", "postgres (PostgreSQL) 15.18")
    make_program("initdb", "initdb (PostgreSQL) 15.18")

    assert find("postgres", steps, offline, "15").origin == "PATH"
    with pytest.raises(ToolUnavailable, match=r"postgres 16: devstack brings 18.*is 15\.18"):
        find("postgres", steps, offline, "16")


def test_a_wrapper_script_is_passed_over(
    steps: Any, offline: Settings, make_program: Make, tmp_path: Path
) -> None:
    shim = tmp_path / "shims" / "go"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\necho go version go1.26.1 linux/amd64\n")
    shim.chmod(0o755)
    real = make_program("go", "go version go1.25.1 linux/amd64")
    path = f"{shim.parent}:{tmp_path / 'bin'}"

    tool = find("go", steps, replace(offline, path=path))

    assert tool.binaries["go"] == real
    assert all(run[0] != str(shim) for run in steps.ran)


def test_a_program_is_asked_once_and_again_when_it_changes(
    make_program: Make, steps: Any, offline: Settings
) -> None:
    make_program("nats-server", "nats-server: v2.10.1")
    find("nats", steps, offline)
    find("nats", steps, offline)
    assert len(steps.ran) == 1

    make_program("nats-server", "nats-server: v2.11.10")

    assert find("nats", steps, offline).version == "2.11.10"
    assert len(steps.ran) == 2


def test_an_old_nginx_is_used_only_where_no_better_one_can_be_had(
    make_program: Make, steps: Any, offline: Settings
) -> None:
    make_program("nginx", "nginx version: nginx/1.22.1\nconfigure arguments: --with-threads")

    tool = find("nginx", steps, offline)

    assert (tool.version, tool.origin, tool.features) == ("1.22.1", "PATH", frozenset())
    assert "no njs shared dictionaries" in tool.notes[0]


def test_a_new_nginx_is_asked_whether_it_has_shared_dictionaries(
    make_program: Make, steps: Any, offline: Settings
) -> None:
    # It answers every question with code 0, `nginx -t` with a shared dictionary included.
    make_program("nginx", "nginx version: nginx/1.29.4")

    tool = find("nginx", steps, offline)

    assert tool.features == frozenset({"njs"})
    assert any("-t" in run for run in steps.ran)


def test_python_is_the_interpreter_behind_a_shim(steps: Any, offline: Settings) -> None:
    tool = find("python", steps, replace(offline, path="/usr/bin"))

    python = tool.binaries["python3"]
    assert python.is_absolute()
    assert tool.origin == "PATH"
    assert tool.version.startswith("3.")


def test_an_unknown_tool_is_refused_with_the_known_ones(steps: Any, offline: Settings) -> None:
    with pytest.raises(ToolUnavailable, match=r"cannot find redis: devstack knows go, mariadb"):
        find("redis", steps, offline)


def test_mariadb_stands_in_for_mysql_and_says_what_it_lacks(
    make_program: Make, steps: Any, offline: Settings
) -> None:
    answer = "mariadbd  Ver 11.4.2-MariaDB for Linux on x86_64 (MariaDB Server)"
    make_program("mariadbd", answer)
    make_program("mariadb-install-db", "")

    tool = find("mysql", steps, offline, "8")

    assert (tool.name, tool.product, tool.version) == ("mysql", "MariaDB", "11.4.2")
    assert tool.is_stand_in
    assert "MariaDB 11.4.2 stands in for MySQL 8" in tool.notes[0]
    assert not find("mariadb", steps, offline).is_stand_in


def test_a_mariadb_that_calls_itself_mysqld_is_not_taken_for_mysql(
    make_program: Make, steps: Any, offline: Settings
) -> None:
    answer = "mysqld  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)"
    program = make_program("mysqld", answer)
    make_program("mariadb-install-db", "")

    tool = find("mysql", steps, offline)

    assert (tool.product, tool.version) == ("MariaDB", "10.11.19")
    assert tool.binaries["mariadbd"] == program
