"""How a command gets a controller where none runs: started in a session of its own, then waited for.

Any number of commands may do so at once: the controller's lock lets one of them win, and all others
wait for that one's socket. Nothing of the user's shell is inherited but what finds files and programs;
the environment goes along with `up`.
"""
# pathlib is kept out here as everywhere on the client's side
# ruff: noqa: PTH123

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from devstack.api.client import ANSWER_SECONDS, Client, connect, lock_holder
from devstack.api.locate import Places
from devstack.api.wire import LOCK_HELD

START_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 0.003
_LONGEST_LOG = 1 << 20
_TAIL = 4000
_PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
    "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


class CannotStart(Exception):
    """The controller did not come up; the message ends with its last words."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(f"cannot start the controller: {reason}")
        self.hint = hint


def usual_command() -> tuple[str, ...]:
    """How a controller is started with this interpreter, from any folder."""
    from devstack.bootstrap.interpreter import module_command

    return module_command("devstack.controller")


def start(
    places: Places,
    stack_file: str,
    environment: Mapping[str, str],
    *,
    command: Sequence[str] | None = None,
    on_wait: Callable[[], None] | None = None,
) -> Client:
    """A connection to the controller of a stack, started unless another one came first.

    Raises CannotStart, and Silent where another one came first and does not say who it is.
    `on_wait` is called while it waits.
    """
    deadline = time.monotonic() + START_SECONDS
    process: _Process | None = None
    client: Client | None = None
    try:
        while True:
            client = connect(places)
            if client is not None:
                _dismiss(process, client)
                return client
            if process is None:
                argv = [*(command or usual_command()), "--file", stack_file]
                process = _spawn(argv, places, environment)
            elif (code := process.poll()) is not None and code != LOCK_HELD:
                raise CannotStart(
                    f"it ended with {_how(code)}{_last_words(places)}",
                    f"its log is {places.controller_log}",
                )
            elif code is not None:
                process = _again(process, places)
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"it does not answer after {START_SECONDS:g} s{_last_words(places)}",
                    f"its log is {places.controller_log}",
                )
            if on_wait is not None:
                on_wait()
            time.sleep(_LOOK_EVERY_SECONDS)  # the socket does not exist yet: nothing to await
    except BaseException:
        if client is not None:
            client.close()
        if process is not None:
            process.end()
        raise


class _Process:
    """The controller that we started; `subprocess` alone would take as long to import as this command."""

    __slots__ = ("code", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        """As `os.waitstatus_to_exitcode` gives it; None while it runs."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def end(self) -> None:
        """Ask it to end, and see it gone."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _dismiss(process: _Process | None, client: Client) -> None:
    """End the controller we started where another one answers: it must not win later, unasked."""
    if process is not None:
        client.limit(ANSWER_SECONDS)
        if client.greet().pid != process.pid:
            process.end()


def _again(process: _Process, places: Places) -> _Process | None:
    """Whether to go on waiting for the one that holds the lock, or to start once more."""
    return process if lock_holder(places) is not None else None


def _spawn(argv: Sequence[str], places: Places, environment: Mapping[str, str]) -> _Process:
    kept = {name: environment[name] for name in _PASSED_ON if name in environment}
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    log = os.open(places.controller_log, flags, 0o600)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored by who called us, its end is not told
    try:
        if os.fstat(log).st_size > _LONGEST_LOG:
            os.ftruncate(log, 0)
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            kept,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
            setsigmask=(),
        )
        return _Process(pid)
    except OSError as exc:
        raise CannotStart(
            f"{exc.strerror}: {argv[0]}", "install devstack again, or start it from a clone"
        ) from exc
    finally:
        os.close(log)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"


def _last_words(places: Places) -> str:
    try:
        with open(places.controller_log, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL))
            text = file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f"\n{text}" if text else ""
