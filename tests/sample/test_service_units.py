"""The sample's own tests, run the way each language runs them; none of them needs a network.

Programs and modules are had as the product has them, so that a fresh machine runs these tests too.
What the services do together, with real servers, is tested end to end through devstack.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from devstack.packs.go_mains import find_module
from devstack.provision import Tool
from devstack.provision.tool import PATH
from tests.support.tools import tool_or_skip, user_cache

SERVICES = Path(__file__).parents[2] / "services"


def test_auth_passes_its_own_tests() -> None:
    run([sys.executable, "-B", "-m", "unittest"], SERVICES / "auth")


def test_payments_passes_its_own_tests() -> None:
    node = tool("node", ">=20")

    run([str(node.binaries["node"]), "--test"], SERVICES / "payments", node.env)


@pytest.mark.timeout(400)  # a fresh machine fetches Go and the modules first
def test_orders_passes_its_own_tests() -> None:
    orders = SERVICES / "orders"
    module = find_module(orders)
    assert module is not None
    go = tool("go", f">={module.go_version}")
    program, environment = str(go.binaries["go"]), go_environment(go)
    fetched = finish([program, "mod", "download"], orders, environment)
    if fetched.returncode != 0:
        pytest.skip(f"the modules of orders are not to be had: {fetched.stdout.strip()}")

    run([program, "test", "./..."], orders, environment | {"GOPROXY": "off"})


def tool(name: str, wanted: str) -> Tool:
    return asyncio.run(tool_or_skip(name, wanted, path=os.environ["PATH"]))


def go_environment(go: Tool) -> dict[str, str]:
    """Go of the machine's has the user's modules, one that was brought has those of the product."""
    environment = {
        **go.env,
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "CGO_ENABLED": "0",
    }
    if go.origin != PATH:
        environment["GOPATH"] = str(user_cache() / "go")
        environment["GOCACHE"] = str(user_cache() / "go-build")
        environment["GOFLAGS"] += " -modcacherw"
    return environment


def run(argv: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    done = finish(argv, folder, environment or {})
    assert done.returncode == 0, done.stdout


def finish(
    argv: list[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
