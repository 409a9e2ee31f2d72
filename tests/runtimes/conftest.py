"""What tests of runtimes share: a short folder for sockets."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.keeper.places import Places
from tests.support.keepers import make_places


@pytest.fixture
def places() -> Iterator[Places]:
    folder = Path(tempfile.mkdtemp(prefix="dr-", dir="/tmp"))
    yield make_places(folder)
    shutil.rmtree(folder)
