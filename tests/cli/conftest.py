"""Stacks of workers: nothing to provision, ready after a second, no port in use."""

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
