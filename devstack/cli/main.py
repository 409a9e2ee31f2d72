"""The command line's beginning: finds the command in the table, imports it, and turns failures into words."""

from __future__ import annotations

import os
import sys

from devstack.cli.talk import (
    BROKEN_PIPE,
    INTERRUPTED,
    USAGE,
    Failed,
    complain,
    data,
    usage_error,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FILE = ("-f", "--file")
_DIRECTORY = ("-C", "--directory")


def main(arguments: Sequence[str], *, controller: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. `controller` is how to start one, for tests."""
    try:
        return _run(list(arguments), controller)
    except Failed as failure:
        return complain(failure)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has seen enough; nothing more is written, not even at exit
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        return BROKEN_PIPE


def _run(arguments: list[str], controller: Sequence[str] | None) -> int:
    from devstack.cli.table import COMMANDS, overview

    file, rest = _global_options(arguments)
    if not rest or rest[0] in ("-h", "--help"):
        data([overview().rstrip()])
        return USAGE if not rest else 0
    name = "version" if rest[0] == "--version" else rest[0]
    if name not in COMMANDS:
        raise _unknown(name)
    words = rest[1:]
    module = __import__(f"devstack.cli.{COMMANDS[name][0]}", fromlist=["run", "USAGE"])
    if any(word in ("-h", "--help") for word in _before_end(words)):
        data([module.USAGE.rstrip()])
        return 0
    from devstack.api.client import Lost, OtherProtocol, Silent
    from devstack.cli.call import Call

    file, words = _late_options(words, file, has_own_f=name == "logs")
    try:
        return int(module.run(Call(name, words, file, controller)))
    except OtherProtocol as other:
        raise Failed(str(other), other.hint) from other
    except Silent as silent:
        raise Failed(str(silent), silent.hint) from silent
    except Lost as lost:
        raise Failed(
            "cannot go on: the controller ended before it answered",
            "devstack status tells what runs; devstack up starts it again",
        ) from lost


def _global_options(words: list[str]) -> tuple[str | None, list[str]]:
    """Options before the command, done; what is left."""
    file: str | None = None
    while words and words[0].startswith("-") and words[0] not in ("-h", "--help", "--version"):
        name, value, words = _take(words)
        if name in _FILE:
            file = value
        elif name in _DIRECTORY:
            _enter(value)
        else:
            raise usage_error(f"devstack has no option {name}", "devstack --help")
    return file, words


def _late_options(
    words: list[str], file: str | None, *, has_own_f: bool
) -> tuple[str | None, list[str]]:
    """The same options behind the command, where it has no other use for the letter."""
    left: list[str] = []
    while words:
        name = words[0].partition("=")[0]
        if words[0] == "--":
            return file, left + words
        if name in _DIRECTORY:
            _, value, words = _take(words)
            _enter(value)
        elif name == "--file" or (name == "-f" and not has_own_f):
            _, file, words = _take(words)
        else:
            left.append(words[0])
            words = words[1:]
    return file, left


def _take(words: list[str]) -> tuple[str, str, list[str]]:
    name, equals, value = words[0].partition("=")
    if name not in _FILE + _DIRECTORY:
        return name, "", words[1:]
    if equals:
        return name, value, words[1:]
    if len(words) < 2:
        raise usage_error(f"{name} needs a value", "devstack --help")
    return name, words[1], words[2:]


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as exc:
        raise usage_error(
            f"cannot enter {folder}: {(exc.strerror or str(exc)).lower()}",
            "-C names a folder that is there",
        ) from exc


def _before_end(words: list[str]) -> list[str]:
    return words[: words.index("--")] if "--" in words else words


def _unknown(name: str) -> Failed:
    import difflib

    from devstack.cli.table import COMMANDS

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    meant = f" (did you mean '{near[0]}'?)" if near else ""
    return usage_error(f"there is no command '{name}'{meant}", "devstack --help lists them")
