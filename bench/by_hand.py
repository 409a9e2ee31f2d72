"""The same stack started without devstack: its own commands, in its order, to the same readiness.

What each process of a running stack was started with is read from /proc, its private hosts file
included, which `unshare` and `mount` of the system put in place again (as root). Then the script starts
each as soon as what it depends on is ready (or started, where the file says so) and
asks it as devstack does: the declared path, one real query of a database, a connection to the gateway.
Its data folders, dependencies and binaries are the prepared ones of the stack, which is down meanwhile.
What is not counted: the start of the script itself and its imports.
"""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devstack.config.load import load
from devstack.core.model import GATEWAY, Condition, EngineProgram, HttpProbe, Service
from devstack.engine import identity
from devstack.engines.base import EngineSpec, NotReady
from devstack.engines.registry import ENGINES
from tests.support.stacks import StackUnderTest

LOOK_SECONDS = 0.01
NGINX_TITLE = "nginx: master process "
PATIENCE_SECONDS = 60.0
WORKER_SECONDS = 1.0
"""Without a port devstack calls it ready when it has lived so long."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One process as it was started."""

    service: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    needs: tuple[tuple[str, Condition], ...]
    is_ready: Callable[[float], bool]
    """Asked with the time it was started at."""
    stop_signal: int


@dataclass(slots=True)
class Script:
    """Starts what was recorded, each in a thread of its own, and can end it again."""

    recorded: tuple[Recorded, ...]
    output: Path
    _started: dict[str, threading.Event] = field(default_factory=dict)
    _ready: dict[str, threading.Event] = field(default_factory=dict)
    _processes: list[tuple[Recorded, subprocess.Popen[bytes]]] = field(default_factory=list)

    def up(self) -> float:
        """Seconds from the first start to all ready."""
        self._started = {r.service: threading.Event() for r in self.recorded}
        self._ready = {r.service: threading.Event() for r in self.recorded}
        threads = [threading.Thread(target=self._bring_up, args=(r,)) for r in self.recorded]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        missing = [name for name, ready in self._ready.items() if not ready.is_set()]
        if missing:
            self.down()
            raise RuntimeError(f"never ready by hand: {', '.join(missing)}; see {self.output}")
        return took

    def down(self) -> float:
        """Seconds from the first signal to the last end, all at once."""
        began = time.monotonic()
        for recorded, process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 0)
                process.send_signal(recorded.stop_signal)
        for _, process in self._processes:
            process.wait(PATIENCE_SECONDS)
        self._processes.clear()
        return time.monotonic() - began

    def _bring_up(self, recorded: Recorded) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        for name, condition in recorded.needs:
            known = self._started if condition is Condition.STARTED else self._ready
            known[name].wait(PATIENCE_SECONDS)
        with (self.output / f"{recorded.service}.log").open("wb") as log:
            process = subprocess.Popen(
                recorded.argv,
                env=dict(recorded.env),
                cwd=recorded.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started_at = time.monotonic()
        self._processes.append((recorded, process))
        self._started[recorded.service].set()
        while time.monotonic() < deadline and process.poll() is None:
            if recorded.is_ready(started_at):
                self._ready[recorded.service].set()
                return
            time.sleep(LOOK_SECONDS)


def record(stack: StackUnderTest, output: Path) -> tuple[Recorded, ...]:
    """What runs in a stack that is up, as processes to be started by hand; hosts files go to `output`."""
    loaded = load(stack.folder / stack.file, stack.environment).stack
    status = stack.status()
    known = identity.load(stack.folder / ".devstack" / "identity.json")
    assert known is not None
    found: list[Recorded] = []
    for told in status["services"]:
        service = loaded.services[told["name"]]
        for replica in told["replicas"]:
            argv, env, cwd = _of_process(replica["pid"], output / f"{service.name}.hosts")
            url = told["url"] or "" if service.is_engine else _literal(replica["address"])
            if service.name == GATEWAY and not url:
                # nothing public: it serves when it listens for any of the services behind it
                behind = [s["url"] for s in status["services"] if s["url"]]
                url = next(u for u in behind if u.startswith("http"))
            needs = tuple((d.service, d.condition) for d in service.depends_on)
            if GATEWAY in loaded.services and not service.is_engine and service.name != GATEWAY:
                needs = (*needs, (GATEWAY, Condition.READY))
            found.append(
                Recorded(
                    service.name,
                    argv,
                    env,
                    cwd,
                    needs,
                    _readiness(service, url, known),
                    signal.SIGINT if "postgres" in Path(argv[-1]).name else signal.SIGTERM,
                )
            )
    for one in found:  # connects once, so that no import of a driver is counted below
        assert one.is_ready(0.0), one.service
    return tuple(found)


def _literal(address: str | None) -> str:
    return f"http://{address}" if address else ""


def _of_process(pid: int, hosts: Path) -> tuple[tuple[str, ...], dict[str, str], str]:
    """How a process was started, as it can be started again outside devstack."""
    folder = Path("/proc") / str(pid)
    line = (folder / "cmdline").read_bytes().rstrip(b"\0").decode()
    argv = line.removeprefix(NGINX_TITLE).split() if NGINX_TITLE in line else line.split("\0")
    pairs = (folder / "environ").read_bytes().decode().split("\0")
    env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    env = {n: v for n, v in env.items() if not n.startswith("DEVSTACK_")}
    if (folder / "uid_map").read_text() != Path("/proc/self/uid_map").read_text():
        # a server that refuses root: the same way round as devstack's, by the tool of the system
        argv = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--", *argv]
    own = (folder / "root" / "etc" / "hosts").read_bytes()
    if own != Path("/etc/hosts").read_bytes():
        hosts.write_bytes(own)
        mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
        argv = ["unshare", "--mount", "--", "sh", "-c", mount, str(hosts), *argv]
    return tuple(argv), env, str((folder / "cwd").readlink())


def _readiness(service: Service, url: str, known: identity.Identity) -> Callable[[float], bool]:
    if not url:
        return lambda started_at: time.monotonic() - started_at >= WORKER_SECONDS
    host, _, port = url.partition("://")[2].partition("/")[0].rpartition("@")[2].rpartition(":")
    program = service.program
    if isinstance(program, EngineProgram) and service.name != GATEWAY:
        spec = EngineSpec(
            service=service.name,
            engine=program.engine,
            user=program.user or "",
            password=known.passwords.get(service.name, str(program.password or "")),
            database=program.database or service.name.replace("-", "_"),
        )
        return lambda _: _answers_query(spec, host, int(port))
    if isinstance(service.ready.probe, HttpProbe):
        path = service.ready.probe.path
        return lambda _: answers_http(host, int(port), path)
    return lambda _: _accepts(host, int(port))


def _answers_query(spec: EngineSpec, host: str, port: int) -> bool:
    if not _accepts(host, port):
        return False
    try:
        ENGINES[spec.engine].query(spec, host, port, 1.0)
    except NotReady:
        return False
    return True


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 1.0):
            return True
    except OSError:
        return False


def answers_http(host: str, port: int, path: str) -> bool:
    """Whether a GET is answered with a status below 400."""
    request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode()
    try:
        with socket.create_connection((host, port), 1.0) as connection:
            connection.sendall(request)
            connection.settimeout(1.0)
            answer = connection.recv(64).split()
    except OSError:
        return False
    return len(answer) > 1 and answer[1].isdigit() and int(answer[1]) < 400


@contextlib.contextmanager
def script(stack: StackUnderTest) -> Iterator[Script]:
    """The script for a stack that is up now and will be down whenever the script runs."""
    output = stack.folder / ".devstack" / "by-hand"
    output.mkdir(exist_ok=True)
    made = Script(record(stack, output), output)
    try:
        yield made
    finally:
        made.down()
