"""The rows of A once more where only pid 1 may be left: inside a PID namespace."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.support.stacks import REPOSITORY

PID_1 = str(REPOSITORY / "tests" / "support" / "pid_namespace.py")
ROWS = "a03 or a04 or a07 or a12 or a15 or a16"
WHERE = (
    "tests/keeper",
    "tests/faults/test_daemons.py",
    "tests/faults/test_kills.py",
    "tests/faults/test_prepare.py",
    "tests/commands/test_small_stacks.py",
)
SECONDS = 900
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a PID namespace")
@pytest.mark.skipif(not can_unshare(), reason="this system refuses PID namespaces")
@pytest.mark.parametrize("where", WHERE)
def test_a_rows_leave_nothing_but_pid_1(where: str) -> None:
    rows = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", ROWS, where]
    ended = subprocess.run(
        [*NAMESPACE, sys.executable, PID_1, *rows],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-6000:]
    assert " passed" in ended.stdout
