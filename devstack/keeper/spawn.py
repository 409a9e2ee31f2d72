"""How one program becomes a process: fork, everything between fork and exec, and what went wrong there.

Only the keeper's main thread forks: PDEATHSIG follows the thread that did. A failure travels
through a pipe that exec closes, so the parent never waits in here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal

from devstack.keeper import namespaces
from devstack.keeper.marks import RUN_VARIABLE, SPAWN_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

SEPARATOR = b"\0"
USUAL_PIPE = 64 << 10
ALL_SIGNALS = sorted(set(map(int, signal.valid_signals())) - {signal.SIGKILL, signal.SIGSTOP})


class View:
    """How a process sees the machine; see `namespaces`."""

    __slots__ = ("hosts", "secrets", "unprivileged")

    def __init__(self, hosts: str | None, secrets: Mapping[str, str], unprivileged: bool) -> None:
        self.hosts = hosts
        self.secrets = secrets
        self.unprivileged = unprivileged


class Program:
    """What is to be started."""

    __slots__ = ("argv", "cwd", "env", "nice", "stdin", "view")

    def __init__(
        self,
        argv: list[str],
        env: Mapping[str, str],
        cwd: str,
        *,
        stdin: str = os.devnull,
        nice: int = 0,
        view: View | None = None,
    ) -> None:
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.stdin = stdin
        self.nice = nice
        self.view = view


class Marks:
    """What the process carries so that it is found again; see `marks`."""

    __slots__ = ("descriptor", "limit", "run_id", "serial")

    def __init__(self, run_id: str, serial: int, descriptor: int, limit: int | None) -> None:
        self.run_id = run_id
        self.serial = serial
        self.descriptor = descriptor
        self.limit = limit


class Surroundings:
    """What the keeper knows about itself and hands to every child."""

    __slots__ = ("capabilities", "folder", "message_queue_limits", "open_files", "pid", "umask")

    def __init__(
        self,
        folder: str,
        capabilities: namespaces.Capabilities,
        open_files: tuple[int, int],
    ) -> None:
        self.pid = os.getpid()
        self.folder = folder
        self.capabilities = capabilities
        self.open_files = open_files
        self.message_queue_limits = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
        self.umask = os.umask(0o077)
        os.umask(self.umask)


class Failure:
    """Where and why a program did not start."""

    __slots__ = ("number", "path", "stage")

    def __init__(self, stage: str, number: int, path: str) -> None:
        self.stage = stage
        """stdin, view, cwd, user, program, interpreter, loader, arguments, fork"""
        self.number = number
        self.path = path

    def to_wire(self) -> dict[str, object]:
        return {"kind": "spawn", "stage": self.stage, "errno": self.number, "path": self.path}


def start(
    program: Program, marks: Marks | None, around: Surroundings, output: int
) -> tuple[int, int]:
    """Fork; gives the pid and the descriptor that tells how it went (`read_failure` after its end).

    Without marks the process is no part of the run: it outlives the keeper. Raises OSError when no
    process can be made. The caller closes `output`.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _become(program, marks, around, output, writer)
    except BaseException:
        os.close(reader)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.close(writer)
    return pid, reader


def start_with_pipe(
    program: Program, marks: Marks | None, around: Surroundings
) -> tuple[int, int, int]:
    """As `start`, and gives our end of the pipe for its output: it does not block, the other end does."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(reader, False)
        return (*start(program, marks, around, writer), reader)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)


def read_failure(descriptor: int) -> Failure | None:
    """What a child reported before exec, None when it got there."""
    try:
        report = os.read(descriptor, 65536)
    except BlockingIOError:
        return None
    if not report:
        return None
    stage, number, path = report.split(SEPARATOR, 2)
    return Failure(stage.decode("ascii"), int(number), path.decode("utf-8", "surrogateescape"))


class _Refused(Exception):
    def __init__(self, stage: str, number: int, path: str) -> None:
        super().__init__(stage)
        self.failure = Failure(stage, number, path)


def _become(
    program: Program, marks: Marks | None, around: Surroundings, output: int, report: int
) -> NoReturn:
    """The child: never returns, never raises, and never runs anything of the keeper's."""
    failure = Failure("fork", errno.EINVAL, "")
    try:
        _set_up(program, marks, around, output)
        _execute(program.argv, _environment(program.env, marks))
    except _Refused as exc:
        failure = exc.failure
    except OSError as exc:
        failure = Failure("fork", exc.errno or errno.EINVAL, str(exc))
    except ValueError as exc:  # a zero byte in an argument
        failure = Failure("arguments", errno.EINVAL, str(exc))
    finally:
        parts = (failure.stage, str(failure.number), failure.path)
        os.write(report, SEPARATOR.join(part.encode("utf-8", "surrogateescape") for part in parts))
        os._exit(127)


def _set_up(program: Program, marks: Marks | None, around: Surroundings, output: int) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in ALL_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with _stage("stdin", program.stdin):
        given = os.open(program.stdin, os.O_RDONLY)
    os.dup2(given, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.umask(around.umask)
    resource.setrlimit(resource.RLIMIT_NOFILE, around.open_files)
    _set_priority(program.nice)
    _set_message_queue_limit(marks, around)
    view = program.view
    if view is not None and (view.hosts is not None or view.secrets):
        _enter_view(view, around)
    with _stage("cwd", program.cwd):
        os.chdir(program.cwd)
    if view is not None and view.unprivileged and os.geteuid() == 0:
        with _stage("user", around.capabilities.unprivileged):
            namespaces.become_nobody(around.capabilities.unprivileged)
    if marks is not None:
        os.set_inheritable(marks.descriptor, True)
        namespaces.die_with_parent(around.pid, signal.SIGKILL)


def _enter_view(view: View, around: Surroundings) -> None:
    """What the system refused at start is left out: the engine was told, and gave addresses that fit."""
    capabilities = around.capabilities
    hosts = view.hosts if capabilities.hosts else None
    secrets = view.secrets if capabilities.secrets else {}
    if hosts is None and not secrets:
        return
    how = capabilities.hosts_how if capabilities.hosts else capabilities.secrets_how
    scratch = os.path.join(around.folder, f"hosts.{os.getpid()}")
    with _stage("view", namespaces.HOSTS):
        namespaces.enter_view(hosts, secrets, how, scratch)


def _set_priority(nice: int) -> None:
    try:
        os.nice(nice)  # on top of ours: a stack that was started niced stays so
    except PermissionError:
        return  # raising it is a wish


def _set_message_queue_limit(marks: Marks | None, around: Surroundings) -> None:
    soft, hard = around.message_queue_limits
    if marks is not None and marks.limit is not None:
        soft = marks.limit
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (soft, hard))


def _environment(env: Mapping[str, str], marks: Marks | None) -> dict[str, str]:
    if marks is None:
        return {
            name: value for name, value in env.items() if name not in (RUN_VARIABLE, SPAWN_VARIABLE)
        }
    return {**env, RUN_VARIABLE: marks.run_id, SPAWN_VARIABLE: str(marks.serial)}


def _execute(argv: list[str], env: dict[str, str]) -> None:
    """exec, looked up in the PATH that the program is given; returns only by raising."""
    name = argv[0]
    if "/" in name:
        candidates = [name]
    else:
        folders = (env.get("PATH") or os.defpath).split(os.pathsep)
        candidates = [os.path.join(folder or ".", name) for folder in folders]
    denied: str | None = None
    for candidate in candidates:
        try:
            os.execve(candidate, argv, env)  # noqa: S606 -- this is what the keeper is for
        except (FileNotFoundError, NotADirectoryError) as exc:
            if os.path.isfile(candidate):
                raise _missing_interpreter(candidate) from exc
            if "/" in name and exc.errno == errno.ENOTDIR:
                raise _Refused("program", errno.ENOTDIR, candidate) from exc
        except PermissionError:
            denied = denied or candidate
        except OSError as exc:
            stage = "arguments" if exc.errno == errno.E2BIG else "program"
            raise _Refused(stage, exc.errno or errno.EINVAL, candidate) from exc
    if denied is not None:
        raise _Refused("program", errno.EACCES, denied)
    raise _Refused("program", errno.ENOENT, name)


def _missing_interpreter(path: str) -> _Refused:
    """The file is there, what it asks for is not: a `#!` line, or the loader of another system."""
    with open(path, "rb") as file:
        first = file.readline(256)
    if first.startswith(b"#!"):
        words = first[2:].strip(b" \t\n").split(b" ")
        wanted = words[0].decode("utf-8", "surrogateescape")
        return _Refused("interpreter", errno.ENOENT, f"{path}\n{wanted}")
    return _Refused("loader", errno.ENOENT, path)


class _stage:  # noqa: N801 -- reads as a statement
    """Errors inside become a refusal of this stage."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, OSError):
            path = self.path
            if self.name == "view":
                path = str(exc.strerror or exc)
            raise _Refused(self.name, exc.errno or errno.EINVAL, path) from exc


def pipe_size(descriptor: int) -> int:
    """How much a pipe holds; a guess for what is none (`adopt` may bring sockets)."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    except OSError:
        return USUAL_PIPE


def grow_pipe(descriptor: int, size: int) -> int:
    """Ask for a larger pipe; an ordinary user's quota may be used up, which is fine. Its size now."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)
    except OSError:
        return pipe_size(descriptor)
