"""What a set of processes uses, from /proc (proc(5): stat fields 14 and 15, statm field 2)."""

import os
from collections.abc import Iterable
from pathlib import Path

from devstack.runtimes.base import Stats

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def read_stats(pids: Iterable[int]) -> Stats:
    """Sum of CPU time and resident memory; processes that are gone meanwhile count for nothing."""
    cpu, memory, count = 0.0, 0, 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        cpu += (int(fields[11]) + int(fields[12])) / _TICKS
        memory += pages * _PAGE
        count += 1
    return Stats(cpu, memory, count)
