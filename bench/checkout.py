"""A stack to measure: a copy of its own, with its own run folder, below one temporary folder."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.stacks import StackUnderTest, copy_shop, copy_strangers, stack_in


@contextlib.contextmanager
def shop(**environment: str) -> Iterator[StackUnderTest]:
    """The sample."""
    with _temporary() as folder, stack_in(copy_shop(folder / "shop"), **environment) as stack:
        yield stack


@contextlib.contextmanager
def strangers(**environment: str) -> Iterator[StackUnderTest]:
    """The second stack: three strangers' services and a PostgreSQL."""
    copied = "strangers"
    with _temporary() as folder, stack_in(copy_strangers(folder / copied), **environment) as stack:
        yield stack


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="devstack-bench-"))
    try:
        (folder / "shop").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def timed(stack: StackUnderTest, *words: str) -> float:
    """How long a command takes from its start to its end; it must succeed."""
    began = time.monotonic()
    stack.devstack(*words)
    return time.monotonic() - began


def timed_process(argv: list[str], stack: StackUnderTest | None = None) -> float:
    """How long any program takes; its output goes nowhere."""
    began = time.monotonic()
    subprocess.run(
        argv,
        cwd=stack.folder if stack else "/",
        env=stack.environment if stack else None,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began
