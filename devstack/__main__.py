"""Where every command begins: refuses what cannot work, finds the packages, hands over to the CLI.

Runs on the system's bare Python, so it imports the standard library only, and little of it: what
is imported here, every command pays for. Written to be understood by older Pythons too, so that
they can be refused in words.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_MINIMUM = (3, 11)


def command() -> NoReturn:
    """Run one command as this whole process.

    The interpreter is not taken apart at the end, which takes 30 ms with all that `up` has loaded:
    nothing of ours waits for it.
    """
    _open_what_is_closed()
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 1  # a full disk; whoever closed the pipe was dealt with before
    os._exit(code)


def _open_what_is_closed() -> None:
    """Started with `>&-` a stream is None, and the next file that is opened would take its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115 - for the life of the process


def main() -> int:
    """Run one command and return its exit code."""
    if sys.platform == "win32":
        return _refuse(
            "cannot run on Windows: devstack starts and watches Unix processes",
            "run it in WSL 2: wsl --install, then clone and start it there",
        )
    if sys.version_info < _MINIMUM:
        return _refuse(
            f"cannot run on Python {sys.version.split()[0]}: devstack needs 3.11 or newer",
            "start it with a newer one: python3.11 -m devstack",
        )
    from devstack import bootstrap

    arguments = sys.argv[1:]
    if bootstrap.needs_environment(bootstrap.command_of(arguments)):
        code = _enter_environment()
        if code is not None:
            return code
    from devstack.cli.main import main as run

    return run(arguments)


def _enter_environment() -> int | None:
    """None where the packages are importable; otherwise the command is started again, or fails."""
    from devstack import bootstrap
    from devstack.bootstrap.interpreter import BootstrapFailed

    try:
        bootstrap.ensure_environment()
    except BootstrapFailed as failure:
        return _refuse(str(failure), failure.hint, code=1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return None


def _refuse(message: str, hint: str, code: int = 2) -> int:
    sys.stderr.write(message + "\n" + ("hint: " + hint + "\n" if hint else ""))
    return code


def _find_package() -> None:
    """Started by path (`python devstack/__main__.py`), Python looks in the package, not beside it."""
    package = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - a light start
    if sys.path and os.path.abspath(sys.path[0] or os.curdir) == package:  # noqa: PTH100 - a light start
        del sys.path[0]
    root = os.path.dirname(package)  # noqa: PTH120 - a light start
    if root not in sys.path:
        sys.path.insert(0, root)


if __name__ == "__main__":
    if not __package__:
        _find_package()
    command()
