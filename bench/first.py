"""The first `up` of all: empty caches, no data, on a terminal; and how long the screen ever stood still."""

import os
import pty
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path

from bench.checkout import shop
from bench.table import Row
from tests.support.stacks import StackUnderTest

LIMIT_SECONDS = 60.0
PATIENCE_SECONDS = 400.0


def measure(rounds: int) -> list[Row]:
    """Once: a second round would not be a first one, and it takes a minute of both cores."""
    del rounds
    cache = Path(tempfile.mkdtemp(prefix="devstack-bench-cache-"))
    try:
        with shop(XDG_CACHE_HOME=str(cache), TERM="xterm") as stack:
            took, longest, at = _watched(stack)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return [
        Row("first up -d --wait, empty caches", took, LIMIT_SECONDS),
        Row("longest time without a change on the screen", longest, 1.0, note=f"at {at:.1f} s"),
    ]


def _watched(stack: StackUnderTest) -> tuple[float, float, float]:
    """Seconds to the end, of the longest gap between outputs that differ, and when that gap began."""
    environment = {n: v for n, v in stack.environment.items() if n != "NO_COLOR"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(stack.folder)
        argv = stack.command("up", "-d", "--wait")
        os.execvpe(argv[0], argv, environment)
    began = changed = time.monotonic()
    longest, at = 0.0, 0.0
    last = b""
    shown = bytearray()
    while True:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        now = time.monotonic()
        if now - began > PATIENCE_SECONDS:
            os.kill(pid, signal.SIGTERM)
        if not ready:
            continue
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:
            break
        if not data:
            break
        shown += data
        if data != last:
            if now - changed > longest:
                longest, at = now - changed, changed - began
            changed, last = now, data
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise RuntimeError(f"up ended with {code}:\n{shown[-4000:].decode(errors='replace')}")
    return time.monotonic() - began, longest, at
