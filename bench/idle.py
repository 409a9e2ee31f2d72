"""What a stack that only stands there costs: controller, keeper and warden of the sample."""

import os
import time
from pathlib import Path

from bench.checkout import shop
from bench.table import Row
from devstack.keeper import processes

SECONDS = 30
_TICKS = os.sysconf("SC_CLK_TCK")


def measure(rounds: int) -> list[Row]:
    """Once, over half a minute in which nothing happens but probes."""
    del rounds
    with shop() as stack:
        stack.up()
        controller = stack.controller_pid
        others = _keepers(stack.pids("nats")[0])
        time.sleep(5)  # what a start leaves to do is not idling
        before = {pid: _cpu(pid) for pid in (controller, *others)}
        began = time.monotonic()
        time.sleep(SECONDS)
        minutes = (time.monotonic() - began) / 60
        used = {pid: (_cpu(pid) - before[pid]) / minutes for pid in before}
        memory = sum(_pss(pid) for pid in before)
    return [
        Row("idle sample: controller, CPU per minute", used[controller], unit="s"),
        Row(
            "idle sample: keeper and warden, CPU per minute", sum(used[p] for p in others), unit="s"
        ),
        Row("idle sample: all three, of one core", 100 * sum(used.values()) / 60, 4.0, unit="%"),
        Row("idle sample: all three, PSS", memory, 60.0, unit="MB"),
    ]


def _keepers(replica: int) -> tuple[int, int]:
    """The keeper that started a replica, and its warden."""
    known = processes.everything()
    keeper = known[replica].parent
    return keeper, known[keeper].parent


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
