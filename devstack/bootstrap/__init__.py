"""Whether a command needs devstack's own packages, and how to get into an interpreter that has them.

Imported by every command, so it imports nothing itself; the work is in `environment`.
"""

from collections.abc import Sequence
from typing import NoReturn

LIGHT_COMMANDS: tuple[str, ...] = (
    "completion",
    "down",
    "endpoints",
    "env",
    "help",
    "logs",
    "ls",
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


def ensure_environment(group: str = "runtime") -> None:
    """Return where devstack's packages are importable, else start this command again where they are.

    Raises `BootstrapFailed` where they cannot be had.
    """
    from devstack.bootstrap import environment

    environment.ensure(group)


def run_in_environment(group: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `python ARGUMENTS` in the private environment of a lock.

    `group` is `runtime` or `dev`. Raises `BootstrapFailed`.
    """
    from devstack.bootstrap import environment

    environment.run(group, arguments)
