"""What tests of commands share: stacks that a test writes itself."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.commands.kit import PYTHON, Make, free_port, speaker
from tests.support.stacks import StackUnderTest, stack_in, write_stack


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Write a stack (PYTHON and GATEWAY stand for the real ones); at its end it is down."""
    with ExitStack() as ending:

        def written(text: str, **files: str) -> StackUnderTest:
            folder = tmp_path / "small"
            folder.mkdir()
            text = text.replace("PYTHON", PYTHON).replace("GATEWAY", str(free_port()))
            named = {name.replace("_", "."): content for name, content in files.items()}
            write_stack(folder, text, {"alpha.py": speaker(), **named})
            return ending.enter_context(stack_in(folder))

        yield written
