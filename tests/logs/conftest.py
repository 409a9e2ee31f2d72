"""No test of the log store may leave a file open."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _every_file_is_closed() -> Iterator[None]:
    before = open_files()
    yield
    gc.collect()
    assert open_files() - before == set()


def open_files() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        if {".log", ".idx"} & set(Path(path.removesuffix(" (deleted)")).suffixes):
            found.add(f"{number} {path}")
    return found
