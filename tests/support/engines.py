"""Real engines for tests: their tools, running servers, and the proof that none is left."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devstack.engines.base import DataFolder, Engine, EngineSpec, NotReady
from devstack.engines.temporary import ASK_AGAIN_SECONDS
from tests.support.processes import open_files
from tests.support.steps import HowUnprivileged, unprivileged_argv

DEADLINE_SECONDS = 60.0


def free_port(address: str = "127.0.0.1") -> int:
    """Below those that the kernel gives to any connection: it is free still when it is used."""
    for port in random.sample(range(10_000, 20_000), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            return port
    raise AssertionError(f"no port is free at {address}")


@dataclass
class Server:
    """A server started the way the keeper would start it."""

    engine: Engine
    spec: EngineSpec
    folder: DataFolder
    process: subprocess.Popen[bytes]
    address: str
    port: int
    log: Path
    stop_signal: int

    def wait_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                self.engine.query(self.spec, self.address, self.port, 2.0)
            except NotReady as not_ready:
                assert self.process.poll() is None, self.log.read_text(errors="replace")
                if time.monotonic() > deadline:
                    raise AssertionError(not_ready.reason) from not_ready
                time.sleep(0.02)
            else:
                return

    def stop(self) -> int:
        """Asked again as `temporary_server` does: the stand-in for MongoDB can miss a signal."""
        self.process.send_signal(self.stop_signal)
        try:
            return self.process.wait(ASK_AGAIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.send_signal(self.stop_signal)
            return self.process.wait(DEADLINE_SECONDS)

    def kill(self) -> None:
        """The server and all its children, as a kill loop does.

        A PostgreSQL that is started again while a child of the killed one lives refuses to start;
        each child has a session of its own.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)
        for pid in processes_in(self.folder.path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert_no_process_in(self.folder.path)

    def listeners(self) -> set[tuple[str, int]]:
        """Everything TCP that processes of the server listen on."""
        inodes = {path for pid in processes_in(self.folder.path.parent) for path in open_files(pid)}
        found = set()
        for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                    host, port = fields[1].split(":")
                    words = [
                        bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)
                    ]
                    found.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
        return found


@contextlib.contextmanager
def running(
    engine: Engine,
    spec: EngineSpec,
    folder: DataFolder,
    unprivileged: HowUnprivileged,
    address: str = "127.0.0.1",
    port: int | None = None,
) -> Iterator[Server]:
    """A ready server; killed at the end if the test did not stop it."""
    port = port or free_port(address)
    engine.clear_leftovers(folder)
    command = engine.command(spec, folder, address, port)
    log = folder.path.parent / f"{spec.service}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            unprivileged_argv(command.argv, command.run_as, unprivileged),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=command.cwd,
            env={"PATH": os.environ.get("PATH", os.defpath), **command.env},
            start_new_session=True,
        )
    server = Server(engine, spec, folder, process, address, port, log, command.stop_signal)
    try:
        server.wait_ready()
        yield server
    finally:
        server.kill()


def processes_in(folder: Path) -> list[int]:
    """Every process that works in the folder or names it in its command line."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            cwd = os.readlink(process / "cwd")
            words = (process / "cmdline").read_bytes()
            if cwd.startswith(str(folder)) or os.fsencode(folder) in words:
                found.append(int(process.name))
    return found


def assert_no_process_in(folder: Path) -> None:
    """What was killed may need a moment to be gone."""
    deadline = time.monotonic() + 5
    while left := processes_in(folder):
        assert time.monotonic() < deadline, [
            Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left
        ]
        time.sleep(0.02)
