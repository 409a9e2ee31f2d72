"""The sample shop, up for all tests of a module."""

from collections.abc import Iterator

import pytest

from tests.support.stacks import StackUnderTest, copy_shop, running


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUnderTest]:
    """A clone of the sample that serves; after the module nothing of it may be left."""
    with running(copy_shop(tmp_path_factory.mktemp("e2e") / "shop")) as stack:
        yield stack
