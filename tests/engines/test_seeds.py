"""Seeds and data folders without a server: what is wrong with them is told, whatever it is."""

import asyncio
import gzip
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.engines.base import CannotPrepare, SeedFailed
from devstack.engines.folder import read_stamp
from devstack.engines.seeds import load_seeds
from tests.engines.conftest import run

NOBODY = 65534


async def take(file: Path) -> None:
    await asyncio.to_thread(file.read_bytes)


@pytest.mark.parametrize("cut", [slice(0, 5), slice(0, 40), slice(12, None), slice(0, 0)])
def test_a_seed_that_is_no_whole_gzip_file_is_named(tmp_path: Path, cut: slice) -> None:
    seed = tmp_path / "seed.sql.gz"
    seed.write_bytes(gzip.compress(os.urandom(400))[cut])
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    if cut == slice(0, 0):  # nothing at all is an empty file, for gzip too
        run(load_seeds("db", [seed], {".sql": take}, scratch))
        return
    with pytest.raises(SeedFailed, match=rf"cannot seed db: {seed}: it is no gzip file"):
        run(load_seeds("db", [seed], {".sql": take}, scratch))


def test_a_seed_mangled_in_the_middle_is_named(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"CREATE TABLE t (n int);" * 100))
    packed[12:20] = b"\xff" * 8
    seed = tmp_path / "seed.sql.gz"
    seed.write_bytes(packed)

    with pytest.raises(SeedFailed, match=rf"cannot seed db: {seed}: it is no gzip file"):
        run(load_seeds("db", [seed], {".sql": take}, tmp_path))


def test_a_seed_that_cannot_be_unpacked_or_read_says_why(tmp_path: Path) -> None:
    seed = tmp_path / "seed.sql.gz"
    seed.write_bytes(gzip.compress(b"SELECT 1;"))

    with pytest.raises(SeedFailed, match=r"cannot seed db: .*gone/seed.sql: No such file"):
        run(load_seeds("db", [seed], {".sql": take}, tmp_path / "gone"))


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that may be entered and not be listed."""
    root = Path(tempfile.mkdtemp(prefix="devstack-"))
    root.chmod(0o755)
    place = root / "db"
    place.mkdir()
    place.chmod(0o311)
    yield place
    place.chmod(0o700)
    shutil.rmtree(root)


def test_data_that_may_not_be_looked_at_is_said_to_be_somebody_elses(closed: Path) -> None:
    pid = os.fork()
    if pid == 0:
        if os.geteuid() == 0:
            os.setuid(NOBODY)
        try:
            read_stamp(closed, "db")
        except CannotPrepare as problem:
            os._exit(0 if "belongs to uid" in problem.message else 3)
        except BaseException:
            os._exit(2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
