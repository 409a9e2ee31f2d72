"""Fixtures of the packs' tests."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.packs_unit.bench import Bench, MakeTree, PathTools, Run, Snapshot, TakeSnapshot
from tests.support.steps import SubprocessSteps


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One per-user cache for the whole run, as a user has one: the second Go build is warm."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def bench(tmp_path: Path, shared_cache: Path) -> Bench:
    environment = dict(os.environ)
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "NODE_OPTIONS", "NODE_PATH"):
        environment.pop(name, None)
    # The compiled standard library takes a minute of processor time: the machine's own cache.
    environment.setdefault("GOCACHE", str(Path.home() / ".cache" / "go-build"))
    return Bench(
        tmp_path / "checkout", shared_cache, SubprocessSteps(environment=environment), PathTools()
    )


@pytest.fixture
def run() -> Run:
    return asyncio.run


@pytest.fixture
def snapshot() -> TakeSnapshot:
    """Every entry below a folder with its size, change times and inode."""

    def take(folder: Path) -> Snapshot:
        taken: dict[str, tuple[int, int, int]] = {}
        for path in [folder, *sorted(folder.rglob("*"))]:
            info = path.lstat()
            taken[str(path)] = (info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        return taken

    return take


@pytest.fixture
def strangers() -> Path:
    return Path(__file__).parent.parent / "packs"


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """A source folder from names and texts."""
    made: list[Path] = []

    def make(files: Mapping[str, str]) -> Path:
        folder = tmp_path / f"source{len(made)}" / "service"
        made.append(folder)
        folder.mkdir(parents=True)
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return folder

    return make


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    """Every test that starts processes ends with none of them."""
    before = _children()
    yield
    left = _children() - before
    assert not left, f"processes left behind: {left}"


def _children() -> set[int]:
    task = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return {int(pid) for pid in task.read_text().split()} if task.exists() else set()
