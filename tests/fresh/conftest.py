"""One fresh tree for all tests of a run, and what the first of them downloaded."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fresh.trees import FreshSystem, TreeRefused, make_tree

DOWNLOADS = (
    "uv", "npm", "go", "go-build", "tools/go-*", "tools/node-*", "tools/nats-*", "tools/nginx-*",
    "tools/postgres-*", "tools/uv-*",
)  # fmt: skip
"""Parts of the cache that the next user is given; all else is made anew."""


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("fresh")
    folder.chmod(0o755)  # an ordinary user of the tree walks through it
    try:
        made = make_tree(folder)
    except TreeRefused as refused:
        pytest.skip(f"no fresh Debian here: {refused}")
    yield made
    shutil.rmtree(folder)


class Downloads:
    """What the newcomer with empty caches fetched, for those who come after."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def keep(self, system: FreshSystem) -> None:
        for pattern in DOWNLOADS:
            for found in system.cache.glob(pattern):
                to = self._place / found.relative_to(system.cache)
                shutil.copytree(found, to, symlinks=True)

    def give(self, system: FreshSystem) -> None:
        if any(self._place.iterdir()):
            shutil.copytree(self._place, system.cache, symlinks=True)
            system.cache.chmod(0o700)
            system.own(system.cache.parent)


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Downloads:
    return Downloads(tmp_path_factory.mktemp("downloads"))
