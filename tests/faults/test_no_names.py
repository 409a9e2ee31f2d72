"""C05 and C07 where no names can be had: every service is at 127.0.0.1, on a port of its checkout."""

import json
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.faults.crew import cautious
from tests.faults.worst import WEB
from tests.support.stacks import StackUnderTest, write_stack

WITHOUT_NAMES = (
    "unshare", "--user", "--map-root-user",
    "sh", "-ec", 'echo 0 > /proc/sys/user/max_mnt_namespaces; exec "$@"', "sh",
)  # fmt: skip
"""In a user namespace that has no mount namespaces to give."""

STACK = f"""\
name: NAME
gateway: {{port: GATEWAY, routes: {{/: web}}}}
services:
  web: {{command: [{sys.executable}, -I, web.py], ready: {{http: /}}}}
broker:
  broker: {{engine: nats}}
"""


def town(folder: Path, ending: ExitStack, gateway: int) -> StackUnderTest:
    folder.mkdir()
    text = STACK.replace("NAME", folder.name).replace("GATEWAY", str(gateway))
    return ending.enter_context(cautious(write_stack(folder, text, {"web.py": WEB})))


def up(stack: StackUnderTest) -> str:
    """Up and ready without names; what it said."""
    stack.prefix = WITHOUT_NAMES
    try:
        told = stack.up().err
    finally:
        stack.prefix = ()
    assert "names: none, services are at 127.0.0.1" in told
    return told


def dialled(stack: StackUnderTest) -> dict[str, int]:
    found: dict[str, int] = json.loads((stack.folder / ".devstack/identity.json").read_text())[
        "dialled"
    ]
    return found


def answers(stack: StackUnderTest) -> None:
    """Web and broker answer where they are dialled, each as itself."""
    ports = dialled(stack)
    web = httpx.get(f"http://127.0.0.1:{ports['web']}/", trust_env=False, timeout=10)
    assert web.status_code == 200
    with socket.create_connection(("127.0.0.1", ports["broker"]), timeout=10) as nats:
        assert nats.recv(4096).startswith(b"INFO")


@pytest.fixture(autouse=True)
def _names_can_be_forbidden() -> None:
    done = subprocess.run([*WITHOUT_NAMES, "unshare", "--mount", "true"], capture_output=True)
    if b"No space left" not in done.stderr:
        pytest.skip("mount namespaces cannot be forbidden here")


def test_c05_what_is_taken_at_the_start_of_a_run_is_left_and_told_and_the_rest_stays(
    tmp_path: Path,
) -> None:
    with ExitStack() as ending:
        stack = town(tmp_path / "lone", ending, 18091)
        up(stack)
        before = dialled(stack)
        stack.devstack("down")
        with socket.create_server(("127.0.0.1", before["broker"])):
            told = up(stack)
            now = dialled(stack)
            answers(stack)
            stack.devstack("down")
        assert now["broker"] != before["broker"]
        assert now["web"] == before["web"]
        assert (
            f"broker is now dialled at 127.0.0.1:{now['broker']}: {before['broker']}, which it "
            "had, is in use"
        ) in told

        assert "is now dialled" not in up(stack)
        assert dialled(stack) == now


def test_c07_two_checkouts_with_the_same_ports_get_different_ones_when_both_are_up(
    tmp_path: Path,
) -> None:
    with ExitStack() as ending:
        one = town(tmp_path / "one", ending, 18091)
        two = town(tmp_path / "two", ending, 18092)
        two.runtime = one.runtime  # one user has one runtime folder
        up(one)
        one.devstack("down")
        (two.folder / ".devstack").mkdir()
        shutil.copy(one.folder / ".devstack/identity.json", two.folder / ".devstack")

        assert "is now dialled" not in up(one)
        assert up(two).count("is now dialled") == 2

        assert not set(dialled(one).values()) & set(dialled(two).values())
        for stack in (one, two):
            answers(stack)
        addresses = [s.service("web")["replicas"][0]["address"] for s in (one, two)]
        assert addresses[0] != addresses[1]
        for stack in (one, two):
            stack.devstack("down")
        # from now on they differ, whichever is up first
        assert "is now dialled" not in up(two) + up(one)
        for stack in (one, two):
            answers(stack)
