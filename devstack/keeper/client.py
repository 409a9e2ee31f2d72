"""The controller's side of the keeper: starting one, talking to it, hearing of exits.

No stream objects: descriptors must travel with a request, and a lost keeper must be an event and not
an exception in whatever happened to be reading.
"""

import array
import asyncio
import errno
import os
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from devstack import __version__
from devstack.keeper import processes, protocol
from devstack.keeper.places import Places
from devstack.keeper.protocol import to_bytes
from devstack.keeper.refusals import Stage, explain_failure
from devstack.keeper.starting import Starting, spawn_keeper

Mode = Literal["attached", "detached"]
Stream = Literal["output", "stdout", "stderr", "build"]

START_SECONDS = 20.0
GREETING_SECONDS = 10.0
ANSWER_SECONDS = 30.0
"""A keeper that says nothing for so long is stopped or hangs; one that waits for a disk does not."""


class KeeperUnreachable(Exception):
    """No keeper answers at its socket, or it went away before it answered."""


class ProtocolMismatch(Exception):
    """The keeper that runs speaks another protocol: `devstack down` ends it."""

    def __init__(self, theirs: int, version: str) -> None:
        super().__init__(
            f"cannot talk to the running keeper: it speaks protocol {theirs} (devstack {version}),"
            f" this is protocol {protocol.PROTOCOL} (devstack {__version__})"
        )
        self.theirs = theirs
        self.version = version


class KeeperRefused(Exception):
    """A request that the keeper understood and did not do."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        """unknown, known, foreign, signal, greeting, ending, invalid"""


class SpawnError(Exception):
    """A program could not be started; `permanent` when trying again cannot help."""

    def __init__(
        self, message: str, hint: str, *, stage: Stage, errno: int, path: str, permanent: bool
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.stage = stage
        self.errno = errno
        self.path = path
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class View:
    """How a process sees the machine; what is left out is as on the host."""

    hosts: str | None = None
    """The content of its own /etc/hosts."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Name to source file; each shows as /run/secrets/NAME, read-only."""
    as_user: Literal["same", "unprivileged"] = "same"
    """`unprivileged` is for servers that refuse root; as another user it changes nothing."""


@dataclass(frozen=True, slots=True)
class LogTarget:
    """The log that takes a process's output: see `devstack.logs.writer`."""

    folder: str
    name: str
    stream: Stream = "output"


@dataclass(frozen=True, slots=True)
class SpawnSpec:
    """One process to start. Keys that begin with `prepare:` or `probe:` end with their controller."""

    key: str
    group: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    log: LogTarget | None = None
    """None: the output is captured and comes with the exit."""
    view: View | None = None
    nice: int = 0
    stdin: str = os.devnull
    capture_bytes: int | None = None
    """How much of the end of the output comes with the exit; None: 64 KiB without a log, else 0."""
    meta: str = ""
    """A note of the controller's own, given back by `list` and with the exit."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that runs; pid and start time together name it for good."""

    key: str
    group: str
    pid: int
    start_time: int
    """Clock ticks since boot, field 22 of /proc/PID/stat."""
    started_at: float
    """Wall time."""
    is_stopping: bool = False
    meta: str = ""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; kept by the keeper until acknowledged."""

    key: str
    group: str
    pid: int
    code: int | None
    signal: int | None
    """Both None: an adopted process whose own parent took its exit code."""
    at: float
    """CLOCK_MONOTONIC."""
    output: bytes
    left_behind: tuple[str, ...]
    """`name[pid]` of daemons that live on; they are killed 2 s after the exit."""
    meta: str = ""
    """What the controller had noted on the process; empty from a keeper that does not tell."""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What became of what an ended process had left behind."""

    key: str
    group: str
    killed: tuple[str, ...]
    """Gone now."""
    still_there: tuple[str, ...] = ()
    """Could not be killed; tried again as the run ends."""


@dataclass(frozen=True, slots=True)
class LogProblem:
    """A log cannot be written (`problem` says why), or can be written again (None)."""

    folder: str
    name: str
    problem: str | None
    dropped_bytes: int


Notice = LeftBehind | LogProblem


@dataclass(frozen=True, slots=True)
class Listing:
    """What the keeper has: with the snapshot, all that a new controller needs."""

    processes: tuple[Process, ...]
    exits: tuple[Exit, ...]
    mode: Mode
    has_controller: bool
    has_on_loss: bool


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the system allows, tried by the keeper at its start."""

    hosts: bool
    hosts_how: str
    """`mount namespace`, `user+mount namespace`, or why names cannot be had."""
    secrets: bool
    secrets_how: str
    unprivileged: str
    """`user namespace`, `nobody`, `not root`, or why servers cannot be given another user."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the keeper said of itself."""

    protocol: int
    version: str
    run_id: str
    pid: int
    warden: int
    started_at: float
    capabilities: Capabilities
    has_limit_mark: bool


@dataclass(frozen=True, slots=True)
class Command:
    """A program that the keeper starts on its own: the next controller, or the last clean-up."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    output: str = os.devnull
    """A file to append what it says to."""
    given: str = ""
    """What the next controller reads from its standard input; kept in memory, never in a file."""


class KeeperClient:
    """One connection. As `controller` it may ask for everything, and its loss is the controller's."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._incoming = bytearray()
        self._outgoing: deque[tuple[bytearray, list[int]]] = deque()
        self._answers: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._last_request = 0
        self.exits: asyncio.Queue[Exit] = asyncio.Queue()
        self.notices: asyncio.Queue[Notice] = asyncio.Queue()
        self.closed = asyncio.Event()
        """Set when the keeper is gone (its processes with it) or `close` was called."""
        self._greeting: Greeting | None = None
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._receive)

    @classmethod
    async def connect(
        cls, path: str, role: Literal["controller", "observer"] = "controller"
    ) -> Self:
        """Connect and greet; raises `KeeperUnreachable` (also for one that ends) or `ProtocolMismatch`."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)  # a listening unix socket answers at once
        except OSError as exc:
            sock.close()
            raise KeeperUnreachable(f"no keeper answers at {path}: {exc.strerror}") from exc
        client = cls(sock)
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                await client._greet(role)
        except TimeoutError as exc:
            client.close()
            raise KeeperUnreachable(f"the keeper at {path} does not answer") from exc
        except KeeperRefused as exc:
            client.close()
            if exc.kind != "ending":
                raise
            raise KeeperUnreachable(str(exc)) from exc
        except BaseException:
            client.close()
            raise
        return client

    @property
    def greeting(self) -> Greeting:
        assert self._greeting is not None
        return self._greeting

    @property
    def capabilities(self) -> Capabilities:
        return self.greeting.capabilities

    async def spawn(self, spec: SpawnSpec) -> Process:
        """Start a process; returns when its program runs. Raises `SpawnError`, `KeeperRefused`."""
        fields: dict[str, object] = {
            "key": spec.key,
            "group": spec.group,
            "argv": list(spec.argv),
            "env": dict(spec.env),
            "cwd": spec.cwd,
            "nice": spec.nice,
            "stdin": spec.stdin,
            "meta": spec.meta,
        }
        if spec.log is not None:
            fields["log"] = _log_fields(spec.log)
        if spec.capture_bytes is not None:
            fields["capture_bytes"] = spec.capture_bytes
        if spec.view is not None:
            fields["view"] = {
                "hosts": spec.view.hosts,
                "secrets": dict(spec.view.secrets),
                "as_user": spec.view.as_user,
            }
        answer = await self._ask(protocol.SPAWN, fields)
        if answer.get("ok") is not True:
            raise _spawn_error(answer, spec)
        return _process(answer)

    async def signal(self, key: str, signal: int) -> None:
        """Signal the main process alone."""
        await self._request(protocol.SIGNAL, key=key, signal=int(signal))

    async def stop(self, key: str, signal: int, grace_seconds: float) -> None:
        """Signal and CONT, after the grace KILL for all that descends from it; the exit comes later."""
        await self._request(protocol.STOP, key=key, signal=int(signal), grace_seconds=grace_seconds)

    async def kill(self, key: str) -> None:
        """KILL for all that descends from a process, or that an ended one left; the exit comes later."""
        await self._request(protocol.KILL, key=key)

    async def list(self) -> Listing:
        """What runs, and every exit that was not acknowledged."""
        answer = await self._request(protocol.LIST)
        return Listing(
            tuple(map(_process, _objects(answer, "processes"))),
            tuple(map(_exit, _objects(answer, "exits"))),
            "detached" if answer.get("mode") == "detached" else "attached",
            answer.get("has_controller") is True,
            answer.get("has_on_loss") is True,
        )

    async def ack(self, key: str) -> None:
        """The exit is recorded: the keeper may forget it, and the key may be used again."""
        await self._request(protocol.ACK, key=key)

    async def adopt(
        self,
        pid: int,
        key: str,
        group: str,
        log: LogTarget | None,
        pipes: Sequence[int] = (),
    ) -> Process:
        """Hand over a process that one of the keeper's children started, with our ends of its pipes.

        The caller keeps its own copies of the descriptors and closes them.
        """
        fields: dict[str, object] = {"pid": pid, "key": key, "group": group}
        if log is not None:
            fields["log"] = _log_fields(log)
        answer = await self._ask(protocol.ADOPT, fields, pipes)
        _raise_refusal(answer)
        return _process(answer)

    async def on_loss(self, command: Command | None) -> None:
        """What to run when an attached controller is lost; it has 10 s."""
        await self._request(protocol.ON_LOSS, command=_command_fields(command))

    async def mode(self, mode: Mode, respawn: Command | None = None) -> None:
        """Attached: our loss ends everything. Detached: it starts `respawn`, if there is one."""
        await self._request(protocol.MODE, mode=mode, respawn=_command_fields(respawn))

    async def descendants(self, key: str) -> frozenset[int]:
        """The pids that belong to a process: itself, its children, its daemons."""
        answer = await self._request(protocol.DESCENDANTS, key=key)
        pids = answer.get("pids")
        assert isinstance(pids, list)
        return frozenset(pids)

    async def shutdown(self) -> tuple[str, ...]:
        """Kill what is left, forget the run, end the keeper; gives the names of what was killed.

        The run is not forgotten when something could not be killed: the next command tells it.
        """
        answer = await self._request(protocol.SHUTDOWN)
        return _names(answer, "killed")

    def close(self) -> None:
        """Let go of the keeper. An attached one takes that as the loss of its controller."""
        self._lose("the keeper is gone")

    def _lose(self, why: str) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for future in self._answers.values():
            if not future.done():
                future.set_exception(KeeperUnreachable(why))
                future.exception()  # who waited may have been cancelled meanwhile
        self._answers.clear()
        for _, descriptors in self._outgoing:
            _close_all(descriptors)
        self._outgoing.clear()

    # -- requests and answers

    async def _greet(self, role: str) -> None:
        me = os.getpid()
        answer = await self._ask(
            protocol.HELLO,
            {
                "protocol": protocol.PROTOCOL,
                "version": __version__,
                "role": role,
                "pid": me,
                "start_time": processes.start_of(me),
            },
        )
        error = answer.get("error")
        if isinstance(error, dict) and error.get("kind") == "protocol":
            raise ProtocolMismatch(int(error["protocol"]), str(error["version"]))
        _raise_refusal(answer)
        self._greeting = _greeting(answer)

    async def _request(self, verb: str, **fields: object) -> dict[str, object]:
        answer = await self._ask(verb, fields)
        _raise_refusal(answer)
        return answer

    async def _ask(
        self, verb: str, fields: Mapping[str, object], descriptors: Sequence[int] = ()
    ) -> dict[str, object]:
        if self.closed.is_set():
            raise KeeperUnreachable("the keeper is gone")
        self._last_request += 1
        number = self._last_request
        future: asyncio.Future[dict[str, object]] = self._loop.create_future()
        self._answers[number] = future
        line = protocol.encode({"id": number, "verb": verb, **fields})
        self._outgoing.append((bytearray(line), [os.dup(fd) for fd in descriptors]))
        self._send()
        try:
            return await self._await_answer(future, verb)
        finally:
            self._answers.pop(number, None)

    async def _await_answer(
        self, future: asyncio.Future[dict[str, object]], verb: str
    ) -> dict[str, object]:
        """A program may be slow to start, but then the keeper answers what it knows.

        One that does not is given up as if it had died: it ends what it runs, or finds a new
        controller, once it goes on and sees that the connection is gone.
        """
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await asyncio.shield(future)
            except TimeoutError:
                if verb == protocol.LIST:
                    self._lose("the keeper does not answer")
                else:
                    await self._ask(protocol.LIST, {})

    def _send(self) -> None:
        try:
            while self._outgoing:
                data, descriptors = self._outgoing[0]
                if descriptors:
                    rights = array.array("i", descriptors)
                    sent = self._socket.sendmsg(
                        [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                    )
                    _close_all(descriptors)
                    descriptors.clear()
                else:
                    sent = self._socket.send(data)
                del data[:sent]
                if not data:
                    self._outgoing.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._send)
            return
        except OSError:
            self.close()
            return
        self._loop.remove_writer(self._socket.fileno())

    def _receive(self) -> None:
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._incoming += data
        if b"\n" not in data:
            return
        *lines, rest = bytes(self._incoming).split(b"\n")
        self._incoming = bytearray(rest)
        for line in lines:
            self._take(protocol.decode(line))

    def _take(self, message: dict[str, object]) -> None:
        match message.get("event"):
            case protocol.EXIT:
                self.exits.put_nowait(_exit(message))
            case protocol.LEFT_BEHIND:
                self.notices.put_nowait(
                    LeftBehind(
                        _text(message, "key"),
                        _text(message, "group"),
                        _names(message, "killed"),
                        _names(message, "still_there") if "still_there" in message else (),
                    )
                )
            case protocol.LOG_PROBLEM:
                problem = message.get("problem")
                self.notices.put_nowait(
                    LogProblem(
                        _text(message, "folder"),
                        _text(message, "name"),
                        problem if isinstance(problem, str) else None,
                        _number(message, "dropped"),
                    )
                )
            case _:
                future = self._answers.get(_number(message, "id"))
                if future is not None and not future.done():
                    future.set_result(message)


async def start_keeper(
    places: Places, *, run_id: str | None = None, open_files: int | None = None
) -> str:
    """Start a warden with its keeper and wait until the socket answers; gives the run's id.

    `open_files` is the soft limit that children get, where the controller raised its own. Raises
    `KeeperUnreachable` with what the keeper said.
    """
    if sys.platform != "linux":
        raise KeeperUnreachable("cannot start the keeper: it needs Linux")
    try:
        starting = spawn_keeper(places, run_id=run_id, open_files=open_files)
    except OSError as exc:
        raise KeeperUnreachable(f"cannot start the keeper: {exc.strerror}") from exc
    await keeper_started(places, starting)
    return starting.run_id


async def keeper_started(places: Places, starting: Starting) -> None:
    """Wait until a keeper that was spawned answers at its socket. Raises `KeeperUnreachable`."""
    loop = asyncio.get_running_loop()
    _reap_when_ended(loop, starting.pid)
    said = await _read_line(loop, starting.ready)
    if said != b"ready":
        reason = said.decode("utf-8", "replace") or "it ended at once"
        raise KeeperUnreachable(f"cannot start the keeper: {reason}, see {places.keeper_log}")


def _reap_when_ended(loop: asyncio.AbstractEventLoop, pid: int) -> None:
    descriptor = os.pidfd_open(pid)

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return

    loop.add_reader(descriptor, ended)


async def _read_line(loop: asyncio.AbstractEventLoop, descriptor: int) -> bytes:
    """What comes before the other side closes, without its newline; empty when that takes too long."""
    os.set_blocking(descriptor, False)
    done: asyncio.Future[bytes] = loop.create_future()
    content = bytearray()

    def readable() -> None:
        data = os.read(descriptor, 4096)
        content.extend(data)
        if (not data or b"\n" in content) and not done.done():
            done.set_result(bytes(content).strip())

    loop.add_reader(descriptor, readable)
    try:
        async with asyncio.timeout(START_SECONDS):
            return await done
    except TimeoutError:
        return b"it does not answer"
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


# -- from the wire


def _raise_refusal(answer: Mapping[str, object]) -> None:
    if answer.get("ok") is True:
        return
    error = answer.get("error")
    assert isinstance(error, dict)
    raise KeeperRefused(str(error.get("kind")), str(error.get("message", error)))


def _spawn_error(answer: Mapping[str, object], spec: SpawnSpec) -> Exception:
    error = answer.get("error")
    assert isinstance(error, dict)
    if error.get("kind") != "spawn":
        return KeeperRefused(str(error.get("kind")), str(error.get("message", error)))
    stage, number, path = str(error["stage"]), int(error["errno"]), str(error["path"])
    told = explain_failure(stage, number or errno.EINVAL, path, spec.argv[0], spec.env.get("PATH"))
    return SpawnError(
        told.message,
        told.hint,
        stage=told.stage,
        errno=number,
        path=told.path,
        permanent=told.is_permanent,
    )


def _greeting(answer: Mapping[str, object]) -> Greeting:
    given = answer.get("capabilities")
    assert isinstance(given, dict)
    return Greeting(
        protocol=_number(answer, "protocol"),
        version=_text(answer, "version"),
        run_id=_text(answer, "run_id"),
        pid=_number(answer, "pid"),
        warden=_number(answer, "warden"),
        started_at=_float(answer, "started_at"),
        capabilities=Capabilities(
            hosts=given.get("hosts") is True,
            hosts_how=_text(given, "hosts_how"),
            secrets=given.get("secrets") is True,
            secrets_how=_text(given, "secrets_how"),
            unprivileged=_text(given, "unprivileged"),
        ),
        has_limit_mark=answer.get("has_limit_mark") is True,
    )


def _process(fields: Mapping[str, object]) -> Process:
    return Process(
        _text(fields, "key"),
        _text(fields, "group"),
        _number(fields, "pid"),
        _number(fields, "start_time"),
        _float(fields, "started_at"),
        fields.get("stopping") is True,
        str(fields.get("meta", "")),
    )


def _exit(fields: Mapping[str, object]) -> Exit:
    code, number = fields.get("code"), fields.get("signal")
    return Exit(
        _text(fields, "key"),
        _text(fields, "group"),
        _number(fields, "pid"),
        code if isinstance(code, int) else None,
        number if isinstance(number, int) else None,
        _float(fields, "at"),
        to_bytes(_text(fields, "output")),
        _names(fields, "left_behind"),
        str(fields.get("meta", "")),
    )


def _log_fields(log: LogTarget) -> dict[str, object]:
    return {"folder": log.folder, "name": log.name, "stream": log.stream}


def _command_fields(command: Command | None) -> dict[str, object] | None:
    if command is None:
        return None
    return {
        "argv": list(command.argv),
        "env": dict(command.env),
        "cwd": command.cwd,
        "output": command.output,
        "given": command.given,
    }


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    assert isinstance(value, str), name
    return value


def _number(fields: Mapping[str, object], name: str) -> int:
    value = fields.get(name)
    assert isinstance(value, int), name
    return value


def _float(fields: Mapping[str, object], name: str) -> float:
    value = fields.get(name)
    assert isinstance(value, int | float), name
    return float(value)


def _names(fields: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    assert isinstance(value, list), name
    return tuple(map(str, value))


def _objects(fields: Mapping[str, object], name: str) -> list[dict[str, object]]:
    value = fields.get(name)
    assert isinstance(value, list), name
    return value
