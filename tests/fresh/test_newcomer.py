"""The README's first command in a fresh clone on a fresh Debian 12, as four kinds of people.

`up -d --wait` is its form for a test: it returns when all is ready. The first one has empty caches,
as a newcomer has; the others are given what it downloaded.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import shop
from tests.fresh.conftest import Downloads
from tests.fresh.screen import record
from tests.fresh.trees import Entrance, FreshSystem, User

pytestmark = pytest.mark.timeout(600)

UP = ("python3", "-m", "devstack", "up", "-d", "--wait")
UP_SECONDS = 400.0
NOBODY = 65534

PAUSE_SECONDS = 1.0
"""How long a screen may stand still where nothing else runs."""


@contextmanager
def fresh(tree: Path, entrance: Entrance, user: User) -> Iterator[FreshSystem]:
    system = FreshSystem.begin(tree, entrance, user)
    try:
        yield system
    finally:
        system.end()


def devstack(system: FreshSystem, *words: str) -> str:
    """The output of a command that must end well."""
    done = system.run("python3", "-m", "devstack", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sell_and_leave(system: FreshSystem) -> dict[str, Any]:
    """Buy a book from outside, go down, and prove that nothing is left; the status before."""
    status: dict[str, Any] = json.loads(devstack(system, "status", "--json"))
    assert {service["state"] for service in status["services"]} == {"ready"}

    sale = shop.sell_a_book(status["gateway"])
    assert sale.order["status"] == "paid"
    assert shop.sell_a_book(status["gateway"], amount=shop.TOO_MUCH).order["status"] == "declined"

    devstack(system, "down")
    assert system.wait_empty(seconds=2) == {}
    runtime = system.tree / "tmp" / f"devstack-{system.uid}"
    assert [path.name for path in runtime.glob(f"{status['stack_id']}/*.sock")] == []
    assert json.loads(devstack(system, "ls", "--json"))["stacks"] == []
    return status


def hosts_of(status: dict[str, Any]) -> set[str]:
    """Where services but the gateway are dialled, without their last number."""
    urls = [s["url"] for s in status["services"] if s["kind"] != "gateway" and s["url"]]
    return {url.partition("://")[2].rpartition(":")[0].rpartition(".")[0] for url in urls}


def test_a_newcomer_on_a_fresh_debian_sells_a_book_and_the_screen_never_stands_still(
    tree: Path, downloads: Downloads
) -> None:
    with fresh(tree, "bubblewrap", "newcomer") as system:
        # a machine that has more to do already lets everybody wait so much longer
        rivals = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        seen = record(system.argv(*UP), system.environment, seconds=UP_SECONDS)

        assert seen.code == 0, seen.text
        pause, began, frame = seen.longest_pause
        assert pause < PAUSE_SECONDS * rivals, f"{pause:.2f} s from {began:.1f} s on: {frame!r}"
        told = devstack(system, "status")
        assert "names: every service by its own name (user+mount namespace)" in told
        assert "http://auth:8080" in devstack(system, "env", "orders")
        assert system.uids_of("postgres: checkpointer") == {system.uid}
        status = sell_and_leave(system)
        assert len(hosts_of(status)) == 1
        assert hosts_of(status).isdisjoint({"127.0.0"})
        downloads.keep(system)


def test_root_on_a_fresh_debian_sells_a_book_with_postgres_in_a_user_namespace(
    tree: Path, downloads: Downloads
) -> None:
    with fresh(tree, "bubblewrap", "root") as system:
        downloads.give(system)
        up = system.run(*UP, seconds=UP_SECONDS)

        assert up.returncode == 0, up.stderr
        told = devstack(system, "status")
        assert "names: every service by its own name (mount namespace)" in told
        assert "running as root: servers that refuse root use: user namespace" in told
        assert "http://auth:8080" in devstack(system, "env", "orders")
        assert system.uids_of("postgres: checkpointer") == {0}
        assert hosts_of(sell_and_leave(system)).isdisjoint({"127.0.0"})


def test_root_in_a_chroot_has_names_by_mount_namespace_alone_and_postgres_as_nobody(
    tree: Path, downloads: Downloads
) -> None:
    with fresh(tree, "chroot", "root") as system:
        downloads.give(system)
        up = system.run(*UP, seconds=UP_SECONDS)

        assert up.returncode == 0, up.stderr
        told = devstack(system, "status")
        assert "names: every service by its own name (mount namespace)" in told
        assert "running as root: servers that refuse root use: nobody" in told
        assert "http://auth:8080" in devstack(system, "env", "orders")
        assert system.uids_of("postgres: checkpointer") == {NOBODY}
        assert hosts_of(sell_and_leave(system)).isdisjoint({"127.0.0"})


def test_somebody_in_a_chroot_has_no_names_but_ports_of_their_own_on_127_0_0_1(
    tree: Path, downloads: Downloads
) -> None:
    with fresh(tree, "chroot", "newcomer") as system:
        downloads.give(system)
        up = system.run(*UP, seconds=UP_SECONDS)

        assert up.returncode == 0, up.stderr
        assert up.stderr.count("names: none, services are at 127.0.0.1") == 1
        assert "names: none, services are at 127.0.0.1" in devstack(system, "status")
        assert "AUTH_URL=http://127.0.0.1:" in devstack(system, "env", "orders").replace(" ", "")
        status = sell_and_leave(system)
        assert hosts_of(status) == {"127.0.0"}
