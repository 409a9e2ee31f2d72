"""The quota of a service holds whatever else lies in its folder."""

import os
from pathlib import Path

import pytest

from devstack.logs.writer import LogWriter, keep_quota

QUOTA = 10_000


@pytest.fixture
def service(tmp_path: Path) -> Path:
    folder = tmp_path / "logs" / "orders"
    for number in range(5):
        log = LogWriter(str(folder / f"r{number}"), "orders.1#1")
        log.append(b"x" * 4000)
        log.close()
        for file in (folder / f"r{number}").iterdir():
            os.utime(file, ns=(number, number))
    return folder


def runs(service: Path) -> set[str]:
    return {entry.name for entry in service.iterdir() if entry.name.startswith("r")}


def test_a_run_folder_that_cannot_be_read_does_not_switch_it_off(service: Path) -> None:
    os.symlink("loop", service / "loop")

    keep_quota(str(service / "r4"), "orders.1#1", 0, QUOTA)

    assert runs(service) == {"r3", "r4"}


def test_a_segment_that_cannot_be_removed_does_not_keep_the_others(service: Path) -> None:
    stubborn = service / "r0" / "orders.2#1.log"
    stubborn.mkdir()
    os.utime(stubborn, ns=(0, 0))

    keep_quota(str(service / "r4"), "orders.1#1", 0, QUOTA)

    assert runs(service) == {"r0", "r4"}
    assert list((service / "r0").iterdir()) == [stubborn]
