"""J11 and K11: where a stack may lie, and where it listens."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from devstack.keeper import processes
from tests.e2e.shop import sell_a_book
from tests.faults.crew import cautious, crew_of
from tests.faults.worst import WEB
from tests.support.processes import eventually, open_files
from tests.support.stacks import StackUnderTest, copy_shop, write_stack

SUN_PATH = 108
LISTEN = "0A"
PRESETS = ("gateway", "sql", "documents", "broker", "old")
STACK = f"""\
name: open-door
gateway: {{port: 18082, routes: {{/: web}}}}
services:
  web: {{command: [{sys.executable}, -I, web.py]}}
  wide: {{command: [{sys.executable}, -I, wide.py]}}
databases:
  sql: {{engine: postgres}}
  old: {{engine: mysql}}
  documents: {{engine: mongodb}}
broker:
  broker: {{engine: nats, jetstream: true}}
"""


def test_j11_the_shop_sells_from_a_very_deep_folder(tmp_path: Path) -> None:
    deep = tmp_path
    while len(str(deep)) < 3 * SUN_PATH:
        deep = deep / "a-folder-with-a-rather-long-name-and-a-space in it"
    deep.mkdir(parents=True)
    with cautious(copy_shop(deep / "shop")) as shop:
        assert len(str(shop.runtime)) > SUN_PATH, (
            "the runtime folder is too long for a socket as well"
        )
        shop.up()
        assert len(shop.places.control_socket) < SUN_PATH
        sell_a_book(shop.gateway)
        shop.devstack("scale", "orders=2")
        crew_of(shop).kill("controller")
        eventually(lambda: shop.devstack("status", code=None).code == 0, 20)
        sell_a_book(shop.gateway)


def listeners(pids: set[int]) -> dict[tuple[str, int], int]:
    """(address, port) → pid of each listening TCP socket of these processes, from /proc alone."""
    owners: dict[str, int] = {}
    for pid in pids:
        for link in open_files(pid):
            if link.startswith("socket:["):
                owners[link[8:-1]] = pid
    found: dict[tuple[str, int], int] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in owners:
                address, port = fields[1].split(":")
                found[_address(address), int(port, 16)] = owners[fields[9]]
    return found


def _address(hexadecimal: str) -> str:
    words = [hexadecimal[n : n + 8] for n in range(0, len(hexadecimal), 8)]
    raw = b"".join(bytes.fromhex(word)[::-1] for word in words)
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, raw)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[StackUnderTest]:
    folder = tmp_path / "open-door"
    folder.mkdir()
    wide = WEB.replace("127.0.0.1", "0.0.0.0")
    write_stack(folder, STACK, {"web.py": WEB, "wide.py": wide})
    with cautious(folder) as made:
        yield made


def test_k11_everything_listens_on_loopback_and_user_code_that_does_not_is_named(
    stack: StackUnderTest,
) -> None:
    stack.up()
    crew = crew_of(stack)
    found = listeners({pid for pid, _ in crew.all})
    assert len(found) >= 7, found
    beyond = {where: pid for where, pid in found.items() if not ip_address(where[0]).is_loopback}
    [wide] = stack.pids("wide")
    assert set(beyond.values()) == {wide}, beyond

    # each preset was looked at: it does listen
    table = processes.everything()
    for name in PRESETS:
        of_preset = {p.pid for p in processes.tree(table, stack.pids(name))}
        assert of_preset & set(found.values()), name
    for pid in (*crew.controller[:1], *crew.keeper[:1], *crew.warden[:1]):
        assert pid not in found.values(), "the control plane is never TCP"

    told = stack.status()
    [_where] = beyond
    lines = [*told["notes"], *stack.service("wide")["warnings"]]
    named = [line for line in lines if "wide" in line and ("0.0.0.0" in line or "loopback" in line)]
    assert len(named) == 1, lines
    assert not [line for line in lines if "web" in line and "0.0.0.0" in line]

    own = own_addresses()
    for address in own:
        for _, port in found.keys() - beyond.keys():
            with socket.socket() as caller:
                caller.settimeout(1)
                assert caller.connect_ex((address, port)) != 0, f"{address}:{port} is reachable"


def test_a_folder_on_path_that_cannot_be_looked_into_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "path"
    folder.mkdir()
    write_stack(
        folder,
        f"name: path\nservices:\n  web: {{command: [{sys.executable}, -I, web.py]}}\n",
        {"web.py": WEB},
    )
    # a folder of root's after `su`, or what no system has: NGINX is looked for on all of PATH
    shut = tmp_path / "shut"
    shut.mkdir(mode=0)
    path = f"{shut}:/{'x' * 300}:{os.environ['PATH']}"
    try:
        with cautious(folder, PATH=path) as stack:
            stack.up()
    finally:
        shut.chmod(0o700)


def own_addresses() -> list[str]:
    """Addresses of this machine beyond loopback; none in a bare network namespace."""
    told = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False)
    return [word for word in told.stdout.split() if ":" not in word]
