"""A stack for a test: its own copy, its own runtime folder, the command line as users call it.

    with running("shop", folder) as stack:      # up -d --wait, then down, then nothing may be left
        stack.devstack("scale", "orders=3")

The cache of tools is shared by all tests (downloads and Go builds are slow); everything else is the
test's own. At the end the oracle: no process of any run of the stack, no listener, no socket.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devstack.keeper import processes
from devstack.keeper.marks import RUN_VARIABLE
from devstack.keeper.places import Places, places_of, stack_id_of
from tests.support.processes import PATIENCE_SECONDS, Found, open_files

REPOSITORY = Path(__file__).parents[2]
STRANGERS = REPOSITORY / "tests" / "packs"
UP_SECONDS = 300


@dataclass(slots=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return f"exit {self.code}\n--- out\n{self.out}\n--- err\n{self.err}"


@dataclass(slots=True)
class StackUnderTest:
    """A folder with a stack file, and how commands are run there."""

    folder: Path
    runtime: Path
    file: str = "stack.yaml"
    extra: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    """What commands are run with, such as `unshare` and its options."""

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DEVSTACK_")}
        return kept | {"XDG_RUNTIME_DIR": str(self.runtime), "NO_COLOR": "1"} | self.extra

    @property
    def places(self) -> Places:
        return places_of(stack_id_of(str(self.folder / self.file)), self.environment)

    def command(self, *words: str) -> list[str]:
        """A command line of devstack; isolated (-I), so that nothing of the test leaks in."""
        own = [sys.executable, "-I", str(REPOSITORY / "devstack" / "__main__.py"), *words]
        return [*self.prefix, *own]

    def devstack(self, *words: str, code: int | None = 0, seconds: float = UP_SECONDS) -> Result:
        """Run a command to its end; fails the test when it ends with another code."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        assert code is None or result.code == code, result.text
        return result

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command that stays, such as an attached `up`; the caller ends it."""
        return subprocess.Popen(
            self.command(*words), cwd=self.folder, env=self.environment, **options
        )

    def up(self) -> Result:
        return self.devstack("up", "-d", "--wait")

    def status(self) -> dict[str, Any]:
        """`status --json`."""
        parsed: dict[str, Any] = json.loads(self.devstack("status", "--json").out)
        return parsed

    def service(self, name: str) -> dict[str, Any]:
        """One service of the status."""
        found: dict[str, Any] = next(s for s in self.status()["services"] if s["name"] == name)
        return found

    def pids(self, name: str) -> list[int]:
        """Pids of a service's replicas."""
        return [replica["pid"] for replica in self.service(name)["replicas"]]

    @property
    def gateway(self) -> str:
        url: str = self.status()["gateway"]
        return url

    @property
    def controller_pid(self) -> int:
        pid: int = self.status()["controller"]["pid"]
        return pid

    def runs(self) -> list[str]:
        """Ids of all runs whose logs are in the checkout, and so of all that can have processes."""
        logs = self.folder / ".devstack" / "logs"
        return sorted({run.name for service in logs.glob("*") for run in service.glob("*")})

    def left(self) -> list[Found]:
        """Processes that belong to this stack: by mark, by folder, or as its keeper or controller."""
        runs = {run.encode() for run in self.runs()}
        needles = (str(self.folder), str(self.places.folder))
        found: list[Found] = []
        for process in processes.everything().values():
            if not process.is_alive or process.pid == os.getpid():
                continue
            command = _command(process.pid)
            marked = processes.environment_of(process.pid).get(RUN_VARIABLE.encode()) in runs
            if (
                marked
                or any(needle in command for needle in needles)
                or self._holds_mark(process.pid)
            ):
                found.append(Found(process.pid, process.start, process.name, command))
        return found

    def _holds_mark(self, pid: int) -> bool:
        prefix = str(self.places.folder)
        return any(path.startswith(prefix) for path in open_files(pid))

    def assert_nothing_left(self, within: float = PATIENCE_SECONDS) -> None:
        """The oracle of every test that brought a stack up."""
        deadline = time.monotonic() + within
        while True:
            looked = time.monotonic()  # before the look, which takes long on a busy machine
            left = self.left()
            if not left:
                return
            assert looked < deadline, f"still there: {', '.join(map(str, left))}"
            time.sleep(0.02)


def _command(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode("utf-8", "replace")
        )
    except OSError:
        return ""


def copy_shop(target: Path) -> Path:
    """A checkout of the sample alone."""
    shutil.copytree(REPOSITORY / "services", target / "services", ignore=_made)
    shutil.copy(REPOSITORY / "stack.yaml", target / "stack.yaml")
    return target


def copy_strangers(target: Path) -> Path:
    """The second stack: three strangers and a PostgreSQL."""
    shutil.copytree(STRANGERS, target, dirs_exist_ok=True, ignore=_made)
    return target


def write_stack(target: Path, text: str, files: Mapping[str, str] | None = None) -> Path:
    """A stack of a test's own, with further files by their relative paths."""
    (target / "stack.yaml").write_text(text)
    for name, content in (files or {}).items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        if content.startswith("#!"):
            path.chmod(0o755)
    return target


_made = shutil.ignore_patterns(".devstack", "node_modules", "__pycache__", ".venv")


@contextmanager
def stack_in(folder: Path, **extra: str) -> Iterator[StackUnderTest]:
    """A stack that the test brings up and down itself; at the end it is down and nothing is left."""
    runtime = folder.parent / f"run-{folder.name}"
    runtime.mkdir(mode=0o700, exist_ok=True)
    stack = StackUnderTest(folder, runtime, extra=extra)
    try:
        yield stack
    finally:
        stack.devstack("down", code=None, seconds=60)
        stack.assert_nothing_left()


@contextmanager
def running(folder: Path, **extra: str) -> Iterator[StackUnderTest]:
    """As `stack_in`, up and ready when the test begins."""
    with stack_in(folder, **extra) as stack:
        stack.up()
        yield stack
