"""What the keeper's tests share: a short folder for sockets, and a tag for command lines."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.keeper.places import Places
from tests.support.keepers import make_places


@pytest.fixture
def runtime_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dk-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def places(runtime_folder: Path) -> Places:
    return make_places(runtime_folder)


@pytest.fixture
def tag() -> str:
    return f"tag-{uuid.uuid4().hex}"
