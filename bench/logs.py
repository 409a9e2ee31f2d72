"""What the keeper pays for logs: 100,000 lines a second, and a burst of a million lines."""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.table import Row, median, spread
from devstack.keeper.requests import LogTarget
from tests.support.keepers import exit_of, make_places, running_keeper, spec

LINES_A_SECOND = 100_000
SECONDS = 10
BURST = 1_000_000
_TICKS = os.sysconf("SC_CLK_TCK")

STEADY = """
import os, sys, time
line = b"x" * 99 + b"\\n"
rate, seconds = int(sys.argv[1]), float(sys.argv[2])
part = line * (rate // 100)
began = time.monotonic()
for n in range(int(seconds * 100)):
    left = memoryview(part)
    while left:
        left = left[os.write(1, left):]
    time.sleep(max(0.0, began + (n + 1) / 100 - time.monotonic()))
"""
AT_ONCE = """
import os, sys
part = memoryview((b"x" * 99 + b"\\n") * 10_000)
for _ in range(int(sys.argv[1]) // 10_000):
    left = part
    while left:
        left = left[os.write(1, left):]
"""


def measure(rounds: int) -> list[Row]:
    """Ten writers at a steady rate, then one that writes as fast as it can; nothing may be lost."""
    return asyncio.run(_measure(rounds))


async def _measure(rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="devstack-bench-") as folder:
        place = make_places(Path(folder))
        logs = Path(folder) / "logs"
        async with running_keeper(place) as keeper:
            pid = keeper.greeting.pid
            before = _cpu(pid)
            began = time.monotonic()
            rate = str(LINES_A_SECOND // 10)
            for n in range(10):
                log = LogTarget(str(logs), f"steady-{n}")
                await keeper.spawn(
                    spec(f"steady#{n}", sys.executable, "-c", STEADY, rate, str(SECONDS), log=log)
                )
            for _ in range(10):
                async with asyncio.timeout(60):
                    await keeper.ack((await keeper.exits.get()).key)
            took = time.monotonic() - began
            share = (_cpu(pid) - before) / took
            _must_hold(logs, "steady-", LINES_A_SECOND * SECONDS * 100)
            bursts, to_file = [], []
            for n in range(rounds):
                log = LogTarget(str(logs), f"burst-{n}")
                began = time.monotonic()
                await keeper.spawn(
                    spec(f"burst#{n}", sys.executable, "-c", AT_ONCE, str(BURST), log=log)
                )
                await exit_of(keeper, f"burst#{n}", within=60)
                bursts.append(time.monotonic() - began)
                _must_hold(logs, f"burst-{n}", BURST * 100)
                to_file.append(await _straight_to_a_file(Path(folder) / "plain"))
    return [
        Row("keeper, 10 services, 100 k lines/s: of one core", 100 * share, 15.0, unit="%"),
        Row(
            "burst of 1 M lines of 100 B",
            median(bursts),
            1.5,
            "the same program into a file",
            median(to_file),
            note=spread(bursts),
        ),
    ]


async def _straight_to_a_file(path: Path) -> float:
    began = time.monotonic()
    with path.open("wb") as file:
        made = await asyncio.create_subprocess_exec(
            sys.executable, "-c", AT_ONCE, str(BURST), stdout=file
        )
        await made.wait()
    return time.monotonic() - began


def _must_hold(logs: Path, name: str, size: int) -> None:
    found = sum(p.stat().st_size for p in logs.glob(f"{name}*.log*") if not p.name.endswith(".idx"))
    assert found == size, f"{name}: {found} bytes of {size} in the log"


def _cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
