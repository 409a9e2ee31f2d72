"""The second stack in other surroundings: a second checkout, an ordinary user, no toolchains on PATH."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands.kit import ask
from tests.support.stacks import (
    REPOSITORY,
    StackUnderTest,
    copy_shop,
    copy_strangers,
    running,
)

NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"
GREETING = "Good day, opening: 156.25 USD"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "devstack"
WARM = ("tools", "uv", "npm", "go-build")
"""Parts of the cache that are given to a user who has none: downloads are tested elsewhere."""
TOOLS_OF_EVERY_SYSTEM = (
    *("sh", "bash", "env", "cat", "ls", "mkdir", "rm", "cp", "mv", "ln", "sleep", "date", "id"),
    *("dirname", "basename", "uname", "tr", "sed", "grep", "head", "tail", "sort", "cut", "true"),
    *("tar", "gzip", "xz", "python3", "apt-get", "apt-cache", "dpkg", "dpkg-deb", "getconf", "ldd"),
)


def greeting(stack: StackUnderTest) -> str:
    status, answer = ask(stack.gateway, "/greet/opening?in=USD")
    return str(answer["greeting"]) if status == 200 else f"{status} {answer}"


@pytest.mark.timeout(400)  # a fresh machine fetches what the strangers need first
def test_two_checkouts_run_at_the_same_time_and_do_not_meet(tmp_path: Path) -> None:
    first_folder = copy_strangers(tmp_path / "first")
    second_folder = copy_strangers(tmp_path / "second")
    with running(first_folder) as first, running(second_folder) as second:
        assert first.gateway != second.gateway
        assert greeting(first) == greeting(second) == GREETING
        assert ask(first.gateway, "/ledger/entries", account="only-here", cents=9)[0] == 201
        assert ask(first.gateway, "/ledger/balance/only-here")[1]["cents"] == 9
        assert ask(second.gateway, "/ledger/balance/only-here")[1]["cents"] == 0
        urls = [{s["url"] for s in x.status()["services"]} - {None} for x in (first, second)]
        assert urls[0].isdisjoint(urls[1])

        second.devstack("down")

        assert greeting(first) == GREETING
        first.devstack("down")
        first.up()
        assert {s["url"] for s in first.status()["services"] if s["name"] != "gateway"} <= {
            *urls[0],
            None,
        }


@dataclass(slots=True)
class StackOfUser(StackUnderTest):
    """A stack whose commands are run by an ordinary user, from a devstack of the user's own.

    Neither this repository nor the interpreter of the tests need to be readable by others.
    """

    def command(self, *words: str) -> list[str]:
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        program = self.folder.parent / "devstack" / "__main__.py"
        return [*become, SYSTEM_PYTHON, "-I", str(program), *words]


@contextmanager
def stack_of_user() -> Iterator[StackOfUser]:
    """The strangers in folders of a user's own; these lie where that user can get to."""
    place = Path(tempfile.mkdtemp(prefix="devstack-user-"))
    try:
        folder = copy_strangers(place / "strangers")
        shutil.copytree(REPOSITORY / "devstack", place / "devstack")
        for part in ("home", "run", "cache/devstack"):
            (place / part).mkdir(parents=True)
        for part in WARM:
            if (CACHE / part).is_dir():
                shutil.copytree(CACHE / part, place / "cache/devstack" / part, symlinks=True)
        for root, folders, files in os.walk(place):
            for name in (*folders, *files):
                os.chown(Path(root) / name, NOBODY, NOBODY, follow_symlinks=False)
        os.chown(place, NOBODY, NOBODY)
        (place / "run").chmod(0o700)
        extra = {
            "HOME": str(place / "home"),
            "USER": "nobody",
            "XDG_CACHE_HOME": str(place / "cache"),
            "PATH": "/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin",
        }
        yield StackOfUser(folder, place / "run", extra=extra)
    finally:
        shutil.rmtree(place)


@pytest.mark.timeout(500)  # with the copy of the cache, a gigabyte
@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests ran as an ordinary user already")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv to become a user with")
@pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason=f"no {SYSTEM_PYTHON}")
def test_an_ordinary_user_has_the_same_with_names_or_without() -> None:
    with stack_of_user() as stack:
        try:
            stack.up()

            status = stack.status()
            assert greeting(stack) == GREETING
            assert {s["state"] for s in status["services"]} == {"ready"}
            owners = {
                os.stat(f"/proc/{r['pid']}").st_uid
                for s in status["services"]
                for r in s["replicas"]
            }
            assert owners == {NOBODY}
            assert any(note.startswith("names: ") for note in status["notes"])
            assert not any("running as root" in note for note in status["notes"])
            stack.devstack("scale", "greeter=2", "rates=2")
            assert greeting(stack) == GREETING
            stack.devstack("restart", "ledger-db", "ledger")
            assert greeting(stack) == GREETING
        finally:
            stack.devstack("down", code=None, seconds=60)
            stack.assert_nothing_left()


@pytest.fixture(scope="module")
def bare_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PATH without toolchains and servers, like that of a fresh system."""
    folder = tmp_path_factory.mktemp("bare") / "bin"
    folder.mkdir()
    for name in TOOLS_OF_EVERY_SYSTEM:
        found = shutil.which(name, path="/usr/bin:/bin")
        if found is not None:
            (folder / name).symlink_to(found)
    return folder


def toolchains(stack: StackUnderTest, *services: str) -> str:
    return "\n".join(stack.devstack("why", service).out for service in services)


@pytest.mark.timeout(400)
def test_go_node_and_postgresql_are_brought_where_path_has_none(
    tmp_path: Path, bare_path: Path
) -> None:
    with running(copy_strangers(tmp_path / "strangers"), PATH=str(bare_path)) as stack:
        told = toolchains(stack, "rates", "greeter", "ledger-db", "ledger")

        assert greeting(stack) == GREETING
        for tool in ("go ", "node "):
            line = next(x for x in told.splitlines() if f"note: {tool}" in x)
            assert "(PATH)" not in line
        database = Path(f"/proc/{stack.pids('ledger-db')[0]}/exe").readlink()
        assert database.is_relative_to(CACHE), database
        node = Path(f"/proc/{stack.pids('greeter')[0]}/exe").readlink()
        assert node.is_relative_to(CACHE), node


@pytest.mark.timeout(400)
def test_what_the_sample_needs_is_brought_where_path_has_none(
    tmp_path: Path, bare_path: Path
) -> None:
    with running(copy_shop(tmp_path), PATH=str(bare_path)) as stack:
        status = stack.status()

        assert {s["state"] for s in status["services"]} == {"ready"}
        for name in ("auth-db", "orders-db", "nats", "gateway", "payments"):
            program = Path(f"/proc/{stack.pids(name)[0]}/exe").readlink()
            assert program.is_relative_to(CACHE), (name, program)
        assert (
            ask(stack.gateway, "/auth/register", email="a@b.example", password="long enough")[0]
            == 201
        )
