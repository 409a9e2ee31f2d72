"""The names that something which runs already is shown."""

import subprocess
from pathlib import Path

from devstack.runtimes.process.hosts import rewrite_hosts


def test_the_machines_own_hosts_file_is_never_written() -> None:
    own = Path("/etc/hosts").read_bytes()
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            assert rewrite_hosts(process.pid, "127.0.0.9 stranger\n") is False
        finally:
            process.kill()
    assert Path("/etc/hosts").read_bytes() == own


def test_a_process_that_is_gone_is_passed_over() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert rewrite_hosts(process.pid, "") is False
