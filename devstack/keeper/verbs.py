"""What each request means: from the fields of a message to calls, and back to an answer.

spawn signal stop kill list ack adopt on_loss mode descendants shutdown      (hello: `keeper`)
"""

from __future__ import annotations

import os
import select
import signal

from devstack.keeper import spawn
from devstack.keeper.children import CAPTURE_BYTES, Refused
from devstack.logs.format import stream_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from devstack.keeper.children import Children

    Message = dict[str, object]


SIGNALS = frozenset(map(int, signal.valid_signals()))


class Command:
    """A program to run without anybody waiting for it."""

    __slots__ = ("argv", "cwd", "env", "given", "output")

    def __init__(
        self, argv: list[str], env: dict[str, str], cwd: str, output: str, given: str
    ) -> None:
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.output = output
        """A file that takes what it says."""
        self.given = given
        """What the next controller reads from its standard input."""


def spawn_process(message: Message, children: Children, answer: Callable[[Message], bool]) -> None:
    """Answers when the program runs, or with why it does not."""
    key = text(message, "key")
    program = spawn.Program(
        texts(message, "argv"),
        mapping(message, "env"),
        text(message, "cwd"),
        stdin=text(message, "stdin", os.devnull),
        nice=number(message, "nice", 0),
        view=_view(message),
    )
    if not program.argv:
        raise Refused(kind="invalid", message="argv is empty")
    log, stream = _log(message)

    def started(failure: spawn.Failure | None) -> bool:
        if failure is None:
            return answer({"ok": True, **child.to_wire()})
        return answer({"ok": False, "error": failure.to_wire()})

    child = children.start(
        key,
        text(message, "group"),
        program,
        log,
        stream,
        number(message, "capture_bytes", 0 if log else CAPTURE_BYTES),
        started,
    )
    child.meta = text(message, "meta", "")


def adopt_process(message: Message, children: Children, pipes: list[int]) -> Message:
    try:
        log, stream = _log(message)
        _check_pipes(pipes)
        child = children.adopt(
            number(message, "pid"),
            text(message, "key"),
            text(message, "group"),
            log,
            stream,
            pipes,
        )
    except Refused:
        for pipe in pipes:
            os.close(pipe)
        raise
    return child.to_wire()


def stop_process(message: Message, children: Children) -> None:
    grace = message.get("grace_seconds")
    if not isinstance(grace, int | float):
        raise Refused(kind="invalid", message="grace_seconds is missing")
    children.stop(text(message, "key"), signal_number(message), max(0.0, float(grace)))


def list_processes(children: Children) -> Message:
    return {
        "processes": [child.to_wire() for child in children.running()],
        "exits": list(children.exits.values()),
    }


def command_of(value: object) -> Command | None:
    """A command in a message, None for none."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Refused(kind="invalid", message="a command is an object")
    return Command(
        texts(value, "argv"),
        mapping(value, "env"),
        text(value, "cwd"),
        text(value, "output", os.devnull),
        text(value, "given", ""),
    )


def text(message: Message, name: str, default: str | None = None) -> str:
    value = message.get(name, default)
    if not isinstance(value, str):
        raise Refused(kind="invalid", message=f"{name} is not a text")
    return value


def number(message: Message, name: str, default: int | None = None) -> int:
    value = message.get(name, default)
    if not isinstance(value, int):
        raise Refused(kind="invalid", message=f"{name} is not a number")
    return value


def signal_number(message: Message) -> int:
    value = number(message, "signal")
    if value not in SIGNALS:
        raise Refused(kind="invalid", message=f"there is no signal {value}")
    return value


def texts(message: Message, name: str) -> list[str]:
    value = message.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Refused(kind="invalid", message=f"{name} is not a list of texts")
    return value


def mapping(message: Message, name: str) -> dict[str, str]:
    value = message.get(name)
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise Refused(kind="invalid", message=f"{name} is not a mapping of texts")
    return value


def _view(message: Message) -> spawn.View | None:
    value = message.get("view")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Refused(kind="invalid", message="view is not an object")
    secrets = mapping(value, "secrets")
    for name in secrets:
        if "/" in name or name in ("", ".", ".."):
            raise Refused(kind="invalid", message=f"{name!r} is no name for a secret")
    hosts = None if value.get("hosts") is None else text(value, "hosts")
    return spawn.View(hosts, secrets, text(value, "as_user", "same") == "unprivileged")


def _log(message: Message) -> tuple[tuple[str, str] | None, int]:
    value = message.get("log")
    if value is None:
        return None, 0
    if not isinstance(value, dict):
        raise Refused(kind="invalid", message="log is not an object")
    try:
        stream = stream_number(text(value, "stream"))
    except ValueError as exc:
        raise Refused(kind="invalid", message=f"there is no stream {value['stream']!r}") from exc
    folder, name = text(value, "folder"), text(value, "name")
    if not name or "\0" in folder:
        raise Refused(kind="invalid", message=f"there is no place for a log {name!r} in {folder!r}")
    return (folder, name), stream


def _check_pipes(pipes: list[int]) -> None:
    """A file cannot be waited for, nor can /dev/null."""
    with select.epoll() as poll:
        for pipe in pipes:
            try:
                poll.register(pipe, 0)
            except PermissionError as exc:
                raise Refused(kind="invalid", message="what was sent is no pipe") from exc
