"""What commands import: the import list decides how fast they answer."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stacks import REPOSITORY, StackUnderTest

HEAVY = frozenset(
    {
        "argparse", "asyncio", "dataclasses", "inspect", "typing", "pathlib", "subprocess", "logging",
        "pydantic", "yaml", "rich", "httpx", "psycopg", "pymongo", "pymysql", "ctypes", "urllib",
    }
)  # fmt: skip
LIST = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
before = set(sys.modules)
from devstack.__main__ import main
sys.argv = ["devstack", *sys.argv[1:]]
code = main()
print(code, *sorted(set(sys.modules) - before), file=sys.stderr)
"""


def allowed(words: list[str]) -> frozenset[str]:
    """The log reader's named tuples need typing; nothing else does."""
    return frozenset({"typing"}) if words[0] == "logs" else frozenset()


def imported(folder: Path, stack: StackUnderTest | None, *words: str) -> tuple[int, set[str]]:
    """Modules that a command imports on a bare interpreter (no site packages)."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LIST, *words],
        cwd=folder,
        env=stack.environment if stack is not None else {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    code, *names = done.stderr.splitlines()[-1].split()
    return int(code), set(names)


@pytest.mark.parametrize(
    "words", [["--help"], ["help"], ["scale", "--help"], ["logs", "--help"], ["version"]]
)
def test_help_imports_nothing_slow(tmp_path: Path, words: list[str]) -> None:
    code, names = imported(tmp_path, None, *words)
    assert code == 0
    assert not names & HEAVY - allowed(words)


def test_commands_that_ask_import_nothing_slow(stack: StackUnderTest) -> None:
    stack.up()
    for words in (
        ["status"],
        ["status", "--json"],
        ["why", "api"],
        ["env", "api"],
        ["endpoints"],
        ["ls"],
        ["scale", "api=1"],
        ["logs", "--tail", "3"],
    ):
        code, names = imported(stack.folder, stack, *words)
        assert code == 0, words
        assert not names & HEAVY - allowed(words), words
    _, names = imported(stack.folder, stack, "status")
    ours = {name for name in names if name.startswith("devstack")}
    assert ours == {
        "devstack",
        "devstack.__main__",
        "devstack.api",
        "devstack.api.checkout",
        "devstack.api.client",
        "devstack.api.locate",
        "devstack.api.wire",
        "devstack.bootstrap",
        "devstack.cli",
        "devstack.cli.call",
        "devstack.cli.main",
        "devstack.cli.options",
        "devstack.cli.status",
        "devstack.cli.table",
        "devstack.cli.talk",
        "devstack.keeper",
        "devstack.keeper.places",
    }
