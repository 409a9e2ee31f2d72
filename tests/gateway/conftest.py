"""The NGINX programs that tests of the gateway run."""

import asyncio
import os
from pathlib import Path

import pytest

from devstack.gateway.features import probe_features
from devstack.provision import Settings, ToolUnavailable, find_tool
from tests.gateway.running import Nginx
from tests.support.steps import SubprocessSteps


@pytest.fixture(scope="session")
def nginx() -> Nginx:
    """One that has njs with shared dictionaries: TEST_NGINX, or what provisioning finds."""
    named = os.environ.get("TEST_NGINX")
    program = Path(named) if named else _provisioned()
    features = asyncio.run(probe_features(program, SubprocessSteps()))
    if not features.shared_table:
        pytest.skip(f"{program} has no njs with shared dictionaries")
    return Nginx(program, features)


@pytest.fixture(scope="session")
def plain_nginx() -> Nginx:
    """One without njs: TEST_PLAIN_NGINX, or Debian's where it is installed."""
    named = os.environ.get("TEST_PLAIN_NGINX", "/usr/sbin/nginx")
    if not Path(named).exists():
        pytest.skip("no NGINX without njs here; TEST_PLAIN_NGINX names one")
    modules = os.environ.get("TEST_PLAIN_NGINX_MODULES")
    features = asyncio.run(
        probe_features(
            Path(named), SubprocessSteps(), module_folder=Path(modules) if modules else None
        )
    )
    if features.shared_table:
        pytest.skip(f"{named} has njs with shared dictionaries")
    return Nginx(Path(named), features)


def _provisioned() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "devstack"
    settings = Settings(cache, offline=False, path="", environment=dict(os.environ))
    try:
        tool = asyncio.run(
            find_tool("nginx", wanted=None, steps=SubprocessSteps(), settings=settings)
        )
    except ToolUnavailable as exc:
        pytest.skip(f"no NGINX: {exc}")
    return tool.binaries["nginx"]
