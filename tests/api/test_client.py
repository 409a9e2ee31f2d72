"""The clients' side of the control socket."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.api.client import Client, Lost, Silent
from devstack.api.wire import PROTOCOL, encode

TWO_FILE_SYSTEMS = (
    "mount -t tmpfs none /mnt && mkdir /mnt/a /mnt/b && "
    'mount -t tmpfs none /mnt/a && mount -t tmpfs none /mnt/b && exec "$@"'
)
LOCKING = """
import fcntl, os, sys
sys.path.insert(0, sys.argv[1])
from devstack.api.client import lock_holder
from devstack.keeper.places import Places

ours, other = Places("/mnt/a"), Places("/mnt/b")
held = open(ours.controller_lock, "w")
open(other.controller_lock, "w").close()
assert os.stat(ours.controller_lock).st_ino == os.stat(other.controller_lock).st_ino
fcntl.flock(held, fcntl.LOCK_EX)
print(lock_holder(ours) == os.getpid(), lock_holder(other))
"""


def test_an_answer_is_read_from_a_controller_that_has_gone_meanwhile() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    client = Client(ours)
    try:
        number = client.send("down")
        assert theirs.recv(4096)
        theirs.sendall(encode({"hello": {"protocol": PROTOCOL, "pid": os.getpid()}}))
        theirs.sendall(encode({"id": number, "end": {"exit_code": 0, "lines": []}}))
        theirs.close()

        assert client.greet().pid == os.getpid()
        assert client.wait()["end"] == {"exit_code": 0, "lines": []}
        with pytest.raises(Lost):
            client.wait()
    finally:
        client.close()


def test_who_does_not_answer_is_told_with_its_pid() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    client = Client(ours)
    try:
        client.limit(0.05)

        with pytest.raises(Silent, match=rf"the controller \(pid {os.getpid()}\) does not answer"):
            client.ask("status")
    finally:
        client.close()
        theirs.close()


def test_a_lock_on_a_file_with_the_same_number_elsewhere_is_not_that_of_the_stack() -> None:
    """`down` ends whom it takes for a controller that hangs."""
    unshare = shutil.which("unshare")
    enter = ["unshare", "-Urm", "sh", "-c", TWO_FILE_SYSTEMS, "sh"]
    if unshare is None or subprocess.run([*enter, "true"], capture_output=True).returncode:
        pytest.skip("a tmpfs in a user namespace cannot be had here")
    package = str(Path(__file__).parents[2])

    done = subprocess.run(
        [*enter, sys.executable, "-I", "-c", LOCKING, package],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert (done.stdout, done.returncode) == ("True None\n", 0), done.stderr
