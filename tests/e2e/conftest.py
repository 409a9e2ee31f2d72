"""The sample shop, up for all tests of a module."""

import os
from collections.abc import Iterator

import pytest

from tests.support.stacks import StackUnderTest, copy_shop, running


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUnderTest]:
    """A clone of the sample that serves; after the module nothing of it may be left.

    Its gateway has a port that no other stack wants: 8080 could be taken while its NGINX is dead.
    """
    folder = copy_shop(tmp_path_factory.mktemp("e2e") / "shop")
    file = folder / "stack.yaml"
    text = file.read_text()
    assert "port: 8080" in text
    file.write_text(text.replace("port: 8080", f"port: {8100 + os.getpid() % 900}"))
    with running(folder) as stack:
        yield stack
