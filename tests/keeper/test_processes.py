"""What /proc says, read whole."""

import os
import signal
import subprocess
import sys

from devstack.keeper import processes
from tests.support.processes import eventually, is_alive

MANY = 900
PARENT = """
import os, signal, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        signal.pause()
        os._exit(0)
print("forked", flush=True)
signal.pause()
"""


def test_all_children_are_seen_however_many_there_are() -> None:
    """The kernel answers with whole numbers, so a full page may be some bytes short of one."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PARENT, str(MANY)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        found = processes.children_of(parent.pid)
        os.killpg(parent.pid, signal.SIGKILL)

    assert len(set(found)) == MANY
    eventually(lambda: not any(is_alive(pid) for pid in found))
