"""Stacks of workers: nothing to provision, ready after a second, no port in use."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stacks import StackUnderTest, stack_in, write_stack

TICKER = "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.2; done"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    return write_stack(
        folder,
        "name: shop\n"
        "services:\n"
        f"  api: {{command: '{TICKER}', port: none}}\n"
        "  worker: {command: exec sleep 1000, port: none, depends_on: [api]}\n",
    )


@pytest.fixture
def stack(folder: Path) -> Iterator[StackUnderTest]:
    with stack_in(folder) as stack:
        yield stack


@pytest.fixture
def alone(folder: Path) -> Iterator[StackUnderTest]:
    """A stack whose runtime folder is really its own: short enough to hold sockets."""
    with tempfile.TemporaryDirectory(prefix="ds-") as runtime:
        stack = StackUnderTest(folder, Path(runtime))
        try:
            yield stack
        finally:
            stack.devstack("down", code=None, seconds=60)
            stack.assert_nothing_left()
