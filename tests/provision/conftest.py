"""Steps that run directly, as these tests have no keeper, and small real programs."""

import os
import platform
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from devstack.provision import Settings
from devstack.steps import StepResult
from tests.support.steps import SubprocessSteps


class TimedSteps(SubprocessSteps):
    """Lets no step pass that could take for ever: a service would be `preparing` until then."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        title: str,
        timeout_seconds: float | None = None,
        **more: Any,
    ) -> StepResult:
        assert timeout_seconds is not None, f"nothing ends the step {title}"
        return await super().run(argv, title=title, timeout_seconds=timeout_seconds, **more)


@pytest.fixture
def steps() -> SubprocessSteps:
    return TimedSteps()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An empty cache, an empty PATH, and this user's own index settings."""
    return Settings(tmp_path / "cache", offline=False, path="", environment=dict(os.environ))


def elf_that_says(text: str) -> bytes:
    """A whole Linux program of a few bytes: writes `text` and ends with code 0."""
    message = text.encode()
    code = bytearray(
        b"\xb8\x01\0\0\0\xbf\x01\0\0\0\x48\x8d\x35....\xba....\x0f\x05\xb8\x3c\0\0\0\x31\xff\x0f\x05"
    )
    code[13:17] = struct.pack("<i", len(code) - 17)  # lea rsi, [rip + to the text]
    code[18:22] = struct.pack("<I", len(message))  # mov edx, its length
    base, headers = 0x400000, 64 + 56
    size = headers + len(code) + len(message)
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    elf += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return elf + bytes(code) + message


@pytest.fixture
def make_program(tmp_path: Path) -> Callable[[str, str], Path]:
    """Puts a real program that only tells its version into the folder `bin`."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the small programs of these tests are for Linux on x86_64")

    def make(name: str, answer: str) -> Path:
        path = tmp_path / name if "/" in name else tmp_path / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(elf_that_says(answer + "\n"))
        path.chmod(0o755)
        return path

    return make
