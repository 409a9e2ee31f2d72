"""D07: a disk that is full costs output, never the service: nothing raises, the newest is kept, it recovers."""

import os
import resource
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.logs.format import OUTPUT
from devstack.logs.query import Gap, Line, Query
from devstack.logs.reader import LogStore
from devstack.logs.writer import RING_BYTES, LogWriter


def is_tmpfs_possible() -> bool:
    unshare = shutil.which("unshare")
    return (
        unshare is not None
        and subprocess.run(
            [unshare, "-Urm", "sh", "-c", "mount -t tmpfs none /mnt"],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


SCRIPT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from devstack.logs.format import OUTPUT
from devstack.logs.query import Gap, Line, Query
from devstack.logs.reader import LogStore
from devstack.logs.writer import LogWriter

root = "/mnt/logs"
filler = os.open("/mnt/filler", os.O_CREAT | os.O_WRONLY)
log = LogWriter(root + "/orders/r1", "orders.1#1")
log.append(b"before\\n", OUTPUT)
try:
    while True:
        os.write(filler, b"x" * 4096)
except OSError:
    pass
for number in range(20000):
    log.append(b"%0999d\\n" % number, OUTPUT)
assert log.problem == "No space left on device", log.problem
dropped = log.dropped
assert dropped > 0
late = LogWriter(root + "/late/r1", "late.1#1")
late.append(b"late\\n", OUTPUT)
os.ftruncate(filler, 0)
deadline = time.monotonic() + 10
while not (log.retry() and late.retry()):
    assert time.monotonic() < deadline
log.append(b"after\\n", OUTPUT)
assert log.problem is None and log.dropped == dropped
log.close()
late.close()
found = list(LogStore(root).read(Query(services=("orders",))))
gaps = [item for item in found if isinstance(item, Gap)]
lines = [item.text for item in found if isinstance(item, Line)]
assert [gap.size for gap in gaps] == [dropped], gaps
assert lines[0] == b"before" and lines[-1] == b"after" and lines[-2] == b"%0999d" % 19999, lines[-2:]
assert sum(map(len, lines)) + len(lines) + dropped == 20000 * 1000 + len(b"before\\nafter\\n")
assert [item.text for item in LogStore(root).read(Query(services=("late",)))] == [b"late"]
print("fine")
"""


def test_d07_a_full_tmpfs(tmp_path: Path) -> None:
    if not is_tmpfs_possible():
        pytest.skip("a tmpfs in a user namespace cannot be had here")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    package = Path(__file__).parents[2]
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", 'mount -t tmpfs -o size=1m none /mnt && exec "$@"', "sh",
         sys.executable, str(script), str(package)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


@pytest.fixture
def _limit() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("_limit")
def test_d07_what_cannot_be_written_is_held_and_written_later(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    log = LogWriter(str(tmp_path / "orders" / "r1"), "orders.1#1")
    log.append(b"one\nha", OUTPUT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    log.append(b"lf of a line\n", OUTPUT)
    log.append(b"three\n", OUTPUT)
    problem = log.problem
    kept = list(LogStore(tmp_path).read(Query()))
    stored = (tmp_path / "orders" / "r1" / "orders.1#1.log").read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert log.retry()
    log.close()

    assert problem == "File too large"
    assert stored == b"one\nha", "bytes and their record are written both or neither"
    assert [item.text for item in kept if isinstance(item, Line)] == [b"one", b"ha"]
    found = list(LogStore(tmp_path).read(Query()))
    assert [item.text for item in found if isinstance(item, Line)] == [
        b"one",
        b"half of a line",
        b"three",
    ]
    assert log.dropped == 0


@pytest.mark.usefixtures("_limit")
def test_d07_the_ring_is_bounded_and_one_record_tells_what_was_lost(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    log = LogWriter(str(tmp_path / "orders" / "r1"), "orders.1#1")
    log.append(b"begun", OUTPUT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    for number in range(100):
        log.append(b"%09999d\n" % number, OUTPUT)
    log.append(b"x" * (RING_BYTES + 7), OUTPUT)
    log.append(b"\nlast\n", OUTPUT)
    held = log._held_bytes
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert log.retry()
    log.close()
    found = list(LogStore(tmp_path).read(Query()))

    assert held <= RING_BYTES
    assert [item.size for item in found if isinstance(item, Gap)] == [log.dropped]
    assert log.dropped + sum(len(item.text) for item in found if isinstance(item, Line)) == (
        5 + 100 * 10_000 + RING_BYTES + 7 + 6 - 2
    )
    assert isinstance(found[0], Line)
    assert (found[0].text, found[0].partial) == (b"begun", True)
    assert isinstance(found[-1], Line)
    assert found[-1].text == b"last"


@pytest.mark.usefixtures("_limit")
def test_d07_a_rotation_that_cannot_be_made_is_made_later(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    log = LogWriter(str(tmp_path / "orders" / "r1"), "orders.1#1", rotate_bytes=40)
    for number in range(3):
        log.append(b"line %d\n" % number, OUTPUT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    for number in range(3, 20):
        log.append(b"line %d\n" % number, OUTPUT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert log.retry()
    log.close()

    lines = [item.text for item in LogStore(tmp_path).read(Query()) if isinstance(item, Line)]
    assert lines == [b"line %d" % number for number in range(20)]


def test_a_folder_that_cannot_be_made_raises_nothing_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "orders").write_text("a file where the folder should be")
    log = LogWriter(str(tmp_path / "orders" / "r1"), "orders.1#1")
    log.append(b"held\n", OUTPUT)
    assert log.problem is not None
    os.unlink(tmp_path / "orders")
    assert log.retry()
    log.close()

    assert [item.text for item in LogStore(tmp_path).read(Query()) if isinstance(item, Line)] == [
        b"held"
    ]


def test_a_writer_that_is_closed_takes_no_more(tmp_path: Path) -> None:
    log = LogWriter(str(tmp_path / "orders" / "r1"), "orders.1#1")
    log.close()
    log.close()
    log.append(b"late", OUTPUT)

    assert list(LogStore(tmp_path).read(Query())) == []
