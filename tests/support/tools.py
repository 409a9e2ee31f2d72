"""Tools for tests, looked up or brought as for a user, into the user's own cache: fetched once."""

import os
from pathlib import Path

import pytest

from devstack.provision import Settings, Tool, ToolUnavailable, find_tool
from devstack.steps import StepFailed
from tests.support.steps import SubprocessSteps


def user_cache() -> Path:
    """Where devstack keeps what it brought."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "devstack"


async def tool_or_skip(name: str, wanted: str | None = None, *, path: str = "") -> Tool:
    """The tool; the test is skipped where it cannot be had. Without a path nothing of the machine's."""
    settings = Settings(user_cache(), offline=False, path=path, environment=dict(os.environ))
    try:
        return await find_tool(name, wanted=wanted, steps=SubprocessSteps(), settings=settings)
    except (ToolUnavailable, StepFailed) as error:
        pytest.skip(f"no {name} here: {error}")
