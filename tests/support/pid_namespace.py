"""Pid 1 of a PID namespace: runs a command, then tells what is left beside it.

    unshare --pid --fork --mount-proc python3 pid_namespace.py COMMAND …

An oracle that needs no mark: whatever outlives its parents becomes a child of this process, and no
process can leave the namespace. Exit code 0: the command ended with 0 and nothing was left.
"""

import os
import subprocess
import sys
import time

PATIENCE_SECONDS = 10.0


def left() -> list[str]:
    """Every other process of the namespace, the dead ones reaped."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) != os.getpid():
            try:
                with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                    found.append(f"{pid} {file.read().replace(chr(0), ' ')}")
            except OSError:
                continue
    return found


def main() -> int:
    """Run it; see the module's docstring."""
    assert os.getpid() == 1, "not in a PID namespace of its own"
    code = subprocess.run(sys.argv[1:], check=False).returncode
    deadline = time.monotonic() + PATIENCE_SECONDS
    while rest := left():
        if time.monotonic() > deadline:
            print("left behind:", *rest, sep="\n  ")
            return 1
        time.sleep(0.02)
    return code


if __name__ == "__main__":
    sys.exit(main())
