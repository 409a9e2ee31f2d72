"""The writer runs inside the keeper and `devstack logs` must start at once: what importing them costs."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devstack.logs.query import Line, Query
from devstack.logs.reader import LogStore

PACKAGE = str(Path(__file__).parents[2])
LISTS_MODULES = """
import sys
before = set(sys.modules)
sys.path.insert(0, {package!r})
import {modules}
print(*sorted(set(sys.modules) - before))
"""
APPENDS = """
import sys
sys.path.insert(0, sys.argv[1])
from devstack.logs.writer import LogWriter
log = LogWriter(sys.argv[2], "orders.1#1", rotate_bytes=100_000)
number = 0
while True:
    log.append(b"%d\\n" % number, 0)
    sys.stdout.write("%d\\n" % number)
    number += 1
"""


def imported(modules: str) -> set[str]:
    script = LISTS_MODULES.format(package=PACKAGE, modules=modules)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_writer_imports_next_to_nothing() -> None:
    allowed = {
        "__future__", "_collections_abc", "_stat", "_struct", "devstack", "devstack.logs",
        "devstack.logs.format", "devstack.logs.writer", "fcntl", "genericpath", "os", "os.path",
        "posixpath", "stat", "struct",
    }  # fmt: skip
    assert imported("devstack.logs.writer") <= allowed


def test_the_reader_imports_nothing_slow() -> None:
    found = imported("devstack.logs.reader, devstack.logs.follow, devstack.logs.render")

    slow = {
        "asyncio",
        "ctypes",
        "dataclasses",
        "datetime",
        "inspect",
        "json",
        "pathlib",
        "pydantic",
    }
    assert found & slow == set()


@pytest.mark.timeout(60)
def test_d01_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "orders" / "r1"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", APPENDS, PACKAGE, str(folder)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + 30
        while process.stdout.readline() != b"20000\n":
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGKILL)
        rest = b"20000\n" + process.stdout.read()
    acknowledged = rest[: rest.rindex(b"\n")].split(b"\n")[-1]
    numbers = [
        int(item.text) for item in LogStore(tmp_path).read(Query()) if isinstance(item, Line)
    ]

    assert numbers == list(range(len(numbers)))
    assert len(numbers) > int(acknowledged)
