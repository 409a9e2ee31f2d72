"""Why a program did not start, in words: from stage, errno and path to a sentence and a hint.

Runs in the controller; the keeper only reports numbers.
"""

import errno
import os
from dataclasses import dataclass
from typing import Literal, cast

Stage = Literal[
    "stdin", "view", "cwd", "user", "program", "interpreter", "loader", "arguments", "fork"
]

PERMANENT = frozenset(
    {
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.ENOTDIR,
        errno.ENOEXEC,
        errno.E2BIG,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
    }
)
"""What no second attempt cures. EAGAIN, EMFILE, ENOMEM and ETXTBSY pass."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A failed start as a person reads it."""

    stage: Stage
    path: str
    message: str
    hint: str
    is_permanent: bool


def explain_failure(
    stage: str, number: int, path: str, program: str, search_path: str | None
) -> Explanation:
    """The sentence for a failure; `search_path` is the PATH that the program was looked up in."""
    reason = os.strerror(number).lower()
    path, _, detail = path.partition("\n")
    hint = ""
    match stage:
        case "cwd":
            message = f"cannot start {program}: working folder {path}: {reason}"
        case "stdin":
            message = f"cannot start {program}: input {path}: {reason}"
        case "view":
            message = f"cannot start {program}: cannot give it its own view of the machine: {path}"
        case "user":
            message = f"cannot start {program}: cannot run it as another user than root: {reason}"
            hint = f"tried: {path}"
        case "interpreter":
            message = (
                f"cannot start {path}: its first line asks for {detail!r}, which does not exist"
            )
            hint = "correct its first line, or install that interpreter"
            if detail.endswith("\r"):
                hint = "save the file with Unix line ends (LF), not Windows ones (CRLF)"
        case "loader":
            message = f"cannot start {path}: the loader it asks for does not exist"
            hint = "it was built for another system (C library or processor)"
        case "arguments" if number == errno.E2BIG:
            message = f"cannot start {program}: {reason}"
            hint = "arguments and environment together, or one of them, are longer than the system allows"
        case "arguments":
            message = f"cannot start {program}: {path}"
        case "fork":
            message = f"cannot start {program}: {reason}"
            if number in (errno.EAGAIN, errno.ENOMEM):
                hint = "the limit of processes or memory is reached; it is tried again"
        case _:
            message, hint = _explain_program(number, reason, path, program, search_path)
    return Explanation(cast("Stage", stage), path, message, hint, number in PERMANENT)


def _explain_program(
    number: int, reason: str, path: str, program: str, search_path: str | None
) -> tuple[str, str]:
    if number == errno.ENOENT and "/" not in program:
        return f"cannot start {program}: it is not in PATH", _did_you_mean(program, search_path)
    message = f"cannot start {program}: {path}: {reason}"
    if number == errno.ENOENT:
        return message, _did_you_mean(program, os.path.dirname(program))
    if number == errno.EACCES:
        if os.path.isdir(path):
            return message, "it is a folder"
        return message, f"make it executable: chmod +x {path}"
    if number == errno.ENOEXEC:
        return message, "it is neither a program of this system nor a script with a `#!` line"
    return message, ""


def _did_you_mean(program: str, search_path: str | None) -> str:
    import difflib  # slow to import, and seldom needed

    name = os.path.basename(program)
    names: set[str] = set()
    for folder in (search_path or os.defpath).split(os.pathsep):
        try:
            names.update(os.listdir(folder or "."))
        except OSError:
            continue
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.7)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "install it, or correct the command"
