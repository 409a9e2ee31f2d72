"""Makes devstack's private environment.

For a checkout on a bare Python: `venv` without pip from the standard library, uv from its locked
wheel, then the locked packages by hash, all from the user's own index. The environment lies in the
per-user cache, named by interpreter and lock, so every checkout with the same lock shares it.
"""

import signal
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from devstack.bootstrap.cache import (
    CacheUnusable,
    PlaceLock,
    make_private_folder,
    move_into_place,
    remove_scratch,
    remove_tree,
    scratch_folder,
    told,
)
from devstack.bootstrap.index_settings import (
    IndexSettings,
    SettingsUnreadable,
    read_index_settings,
    variables_for_uv,
)
from devstack.bootstrap.interpreter import (
    BootstrapFailed,
    cache_folder,
    environment_folder,
    ready_python,
    write_marker,
)
from devstack.bootstrap.lockfile import LockDamaged, find_package, read_lock, requirements
from devstack.bootstrap.platform_tags import pick_wheel, this_machine
from devstack.bootstrap.stopping import Stop
from devstack.bootstrap.terminal_line import TerminalLine
from devstack.bootstrap.tool_cache import WheelTool
from devstack.bootstrap.tool_install import Phase, install_tool
from devstack.bootstrap.web import FetchFailed

UV_PROGRAM: Mapping[str, str] = {"uv": "*.data/scripts/uv"}
_WAIT_SECONDS = 0.1
_KEPT_TAIL = 2000


def make_environment(group: str, environment: Mapping[str, str], *, offline: bool) -> Path:
    """The interpreter of the private environment of a lock, made unless another process did.

    Talks on stderr while it works. Raises `BootstrapFailed`.
    """
    place = environment_folder(group, environment)
    try:
        settings = read_index_settings(environment, offline=offline)
        cache = cache_folder(environment)
        make_private_folder(cache)
        make_private_folder(place.parent)
        with (
            _ended_by_signals(),
            TerminalLine(sys.stderr, "making devstack's private environment") as line,
        ):
            _make_once(group, place, cache, settings, environment, line)
            seconds = line.seconds
    except (FetchFailed, CacheUnusable) as exc:
        raise _failed(exc, exc.hint) from exc
    except (SettingsUnreadable, LockDamaged) as exc:
        raise _failed(exc) from exc
    except OSError as exc:
        raise _failed(*told(exc, cache_folder(environment))) from exc
    sys.stderr.write(f"made devstack's private environment in {seconds:.1f} s ({place})\n")
    return place / "bin" / "python"


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """TERM and HUP end the work as an exception does: uv is ended with it, nothing half is left."""

    def end(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    changed = [  # what is ignored (nohup) stays so
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in changed:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _make_once(
    group: str,
    place: Path,
    cache: Path,
    settings: IndexSettings,
    environment: Mapping[str, str],
    line: TerminalLine,
) -> None:
    lock = PlaceLock(place)
    stop = Stop()
    while not lock.try_acquire():
        line.show("waiting for another devstack that makes it")
        stop.pause(_WAIT_SECONDS)
    try:
        if ready_python(group, environment) is not None:
            return
        remove_scratch(place)
        uv = _bring_uv(cache, settings, line, stop)
        scratch = scratch_folder(place)
        try:
            made = scratch / "environment"
            _fill(group, made, scratch, uv, settings, environment, line)
            write_marker(made, group)
            move_into_place(made, place)
        finally:
            remove_tree(scratch)
    finally:
        lock.release()


def _bring_uv(cache: Path, settings: IndexSettings, line: TerminalLine, stop: Stop) -> Path:
    package = find_package(read_lock("tools"), "uv")
    machine = this_machine()
    wheel = pick_wheel(package.wheels, machine)
    if wheel is None:
        raise _failed(
            f"uv {package.version} does not come for {machine}",
            "install devstack with your own installer: pip install devstack-up",
        )
    tool = WheelTool("uv", package, wheel, UV_PROGRAM)
    words = {"wait": "waiting for uv", "download": "fetching uv", "unpack": "unpacking uv"}

    def tell(phase: Phase, done: int, total: int) -> None:
        line.show(words[phase], f"{done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else "")

    return install_tool(tool, cache, settings, on_progress=tell, stop=stop)["uv"]


def _fill(
    group: str,
    made: Path,
    scratch: Path,
    uv: Path,
    settings: IndexSettings,
    environment: Mapping[str, str],
    line: TerminalLine,
) -> None:
    packages = read_lock(group)
    line.show(f"installing {len(packages)} packages")
    venv.EnvBuilder(symlinks=True, with_pip=False).create(made)
    with (made / "pyvenv.cfg").open("a", encoding="utf-8") as stream:
        stream.write("relocatable = true\n")  # uv then writes scripts that survive the rename
    listing = scratch / "requirements.txt"
    listing.write_text(requirements(packages), "utf-8")
    command = [str(uv), "pip", "sync", "--quiet", "--require-hashes", "--only-binary", ":all:"]
    command += ["--python", str(made / "bin" / "python"), str(listing)]
    variables = {**environment, **variables_for_uv(settings, packages[0].index)}
    # A virtual environment that is active around this command is none of uv's business.
    variables.pop("VIRTUAL_ENV", None)
    _run(command, scratch, variables)


def _run(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
    process: subprocess.Popen[bytes] | None = None
    try:
        with _signals_held():
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        output = _output_of(process)
    except BaseException:  # interrupted: nothing goes on in the background
        if process is not None:
            process.terminate()
            with process:  # closes the pipe and waits
                pass
        raise
    if process.returncode != 0:
        tail = output[-_KEPT_TAIL:].decode("utf-8", "replace").strip()
        raise _failed(
            f"uv ended with code {process.returncode}\n{tail}",
            "check the network, and the index settings of pip and uv (PIP_INDEX_URL, UV_INDEX)",
        )


@contextmanager
def _signals_held() -> Iterator[None]:
    """What would raise an exception within the block does so at its end: a started program is known."""
    came: list[int] = []
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(handler := signal.getsignal(number))
    }
    for number in before:
        signal.signal(number, lambda which, _: came.append(which))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _output_of(process: subprocess.Popen[bytes]) -> bytes:
    """All that it writes. By steps: a signal just before a wait begins does not end that wait."""
    while True:
        try:
            return process.communicate(timeout=_WAIT_SECONDS)[0]
        except subprocess.TimeoutExpired:
            continue


def _failed(reason: object, hint: str = "") -> BootstrapFailed:
    return BootstrapFailed(f"cannot make devstack's private environment: {reason}", hint)
