"""A run folder of the test's own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.keeper.places import Places
from tests.api.served import OPENED


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Short enough for a socket, wherever the test's folder is."""
    folder = tmp_path / "r"
    if len(os.fsencode(folder)) > 70:
        pytest.skip("the folder for temporary files is too deep for a socket")
    folder.mkdir(mode=0o700)
    return Places(str(folder / "0123456789"))


@pytest.fixture(autouse=True)
def _clients_are_closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()
