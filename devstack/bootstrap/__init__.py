"""Whether a command needs devstack's own packages, and how to get into an interpreter that has them.

Imported by every command, so it imports nothing itself; the work is in `environment`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what `typing` has under this name, without importing it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import NoReturn

LIGHT_COMMANDS: tuple[str, ...] = (
    "down",
    "endpoints",
    "env",
    "help",
    "logs",
    "ls",
    "reset",
    "restart",
    "scale",
    "start",
    "status",
    "stop",
    "version",
    "why",
)
"""Commands whose client side is standard library only: they run on the bare interpreter."""


def needs_environment(command: str | None) -> bool:
    """Whether `command` imports packages; None is a call without a command (`--help`)."""
    return command is not None and command not in LIGHT_COMMANDS


_OPTIONS_WITH_VALUE = ("-f", "--file", "-C", "--directory")
"""Global options that may stand before the command with a value of their own."""


def command_of(arguments: Sequence[str]) -> str | None:
    """The command among the arguments; None where there are only options."""
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in _OPTIONS_WITH_VALUE:
            skip = True
        elif not argument.startswith("-"):
            return argument
    return None


def ensure_environment(group: str = "runtime") -> None:
    """Return where devstack's packages are importable, else start this command again where they are.

    Raises `BootstrapFailed` where they cannot be had.
    """
    import sys
    from pathlib import Path

    from devstack.bootstrap import interpreter

    if interpreter.has_packages(group):
        return
    main = Path(__file__).parents[1] / "__main__.py"
    interpreter.enter(_python_of(group, sys.argv[1:]), ["-I", str(main), *sys.argv[1:]])


def run_in_environment(group: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `python ARGUMENTS` with the packages of a lock, `runtime` or `dev`.

    Raises `BootstrapFailed`.
    """
    import sys

    from devstack.bootstrap import interpreter

    if interpreter.has_packages(group):
        interpreter.become([sys.executable, *arguments])
    interpreter.enter(_python_of(group, arguments), arguments)


def _python_of(group: str, arguments: Sequence[str]) -> Path:
    import os

    from devstack.bootstrap import interpreter

    python = interpreter.ready_python(group, os.environ)
    if python is None:
        from devstack.bootstrap import environment

        offline = "--offline" in arguments
        python = environment.make_environment(group, os.environ, offline=offline)
    return python
