"""`python3 -m tests`: every check of this repository, with one command, on a bare Python.

    python3 -m tests            all of it
    python3 -m tests fast       without the tests that bring whole stacks or fresh systems up
    python3 -m tests -- -k scale -x        further arguments go to pytest

Makes the development environment where that is missing (as `python3 -m devstack up` makes its own),
then runs formatter, linter, type checker, import contracts and pytest, each to its end. The exit
code is that of the first which failed. pytest comes last, so that its closing line is the last one.

Written so that older Pythons read it too, and are refused in words.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

WHOLE_STACKS = ("tests/commands", "tests/e2e", "tests/faults", "tests/fresh", "tests/strangers")
"""What `fast` leaves out: whole stacks, a fault for each of their parts, fresh systems."""

CHECKS: tuple[tuple[str, ...], ...] = (
    ("ruff", "format", "--check", "--quiet"),
    ("ruff", "check", "--quiet"),
    ("mypy",),
    ("lint-imports",),
)


def main() -> int:
    """Run what was asked for; the exit code of the first check that failed."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever starts this on an older one
        sys.exit("cannot run the tests: devstack needs Python 3.11 or newer")
    extent, for_pytest = _parse(sys.argv[1:])
    if extent is None:
        sys.stderr.write("usage: python3 -m tests [fast|full] [-- PYTEST ARGUMENTS]\n")
        return 2
    os.chdir(ROOT)
    # A shell ignores it in what it starts in the background, and that would be inherited by all
    # programs of the tests: some of them are interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _enter_environment()
    failed = [(_name(check), code) for check in CHECKS if (code := _run(check))]
    if failed:
        print(f"== failed before the tests: {', '.join(name for name, _ in failed)}", flush=True)
    left_out = [f"--ignore={folder}" for folder in WHOLE_STACKS if extent == "fast"]
    code = _run(("pytest", "--durations=15", *left_out, *for_pytest))
    return failed[0][1] if failed else code


def _parse(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The extent, None where it cannot be understood, and pytest's arguments."""
    own, for_pytest = arguments, []
    if "--" in arguments:
        border = arguments.index("--")
        own, for_pytest = arguments[:border], arguments[border + 1 :]
    extent = own[0] if own else "full"
    known = len(own) < 2 and extent in ("fast", "full")
    return extent if known else None, for_pytest


def _enter_environment() -> None:
    """Go on where the development packages are: this process is replaced unless it is there."""
    sys.path.insert(0, str(ROOT))
    from devstack.bootstrap import interpreter, run_in_environment

    if interpreter.has_packages("dev"):
        return
    try:
        run_in_environment("dev", ["-m", "tests", *sys.argv[1:]])
    except interpreter.BootstrapFailed as failure:
        hint = f"\nhint: {failure.hint}" if failure.hint else ""
        sys.exit(f"{failure}{hint}")


def _run(command: tuple[str, ...]) -> int:
    """Run a program of the environment and tell how it ended; its exit code."""
    # The programs lie beside the interpreter; resolving it would leave the environment.
    program = os.path.join(os.path.dirname(sys.executable), command[0])
    print(f"== {' '.join(command)}", flush=True)
    began = time.monotonic()
    try:
        code = subprocess.run([program, *command[1:]], check=False).returncode
    except KeyboardInterrupt:
        sys.exit(130)
    if command[0] != "pytest":
        word = "passed" if code == 0 else f"failed with code {code}"
        print(f"== {_name(command)} {word} in {time.monotonic() - began:.1f} s", flush=True)
    return code if code >= 0 else 128 - code


def _name(command: tuple[str, ...]) -> str:
    return " ".join(word for word in command if not word.startswith("-"))


if __name__ == "__main__":
    sys.exit(main())
