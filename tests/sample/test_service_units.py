"""The sample's own tests, run the way each language runs them; none of them needs a network.

What the services do together, with real servers, is tested end to end through devstack.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SERVICES = Path(__file__).parents[2] / "services"


def test_auth_passes_its_own_tests() -> None:
    run([sys.executable, "-B", "-m", "unittest"], SERVICES / "auth")


def test_payments_passes_its_own_tests() -> None:
    node = program("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < 20:
        pytest.skip(f"payments needs Node 20 or newer, this is {version.strip()}")

    run([node, "--test"], SERVICES / "payments")


def test_orders_passes_its_own_tests() -> None:
    go = program("go")
    offline = {
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "CGO_ENABLED": "0",
    }
    listed = subprocess.run(
        [go, "list", "-deps", "."],
        cwd=SERVICES / "orders",
        env=os.environ | offline,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip(f"the modules of orders are not in the module cache: {listed.stderr.strip()}")

    run([go, "test", "./..."], SERVICES / "orders", offline)


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH")
    return found


def run(argv: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        argv,
        cwd=folder,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
