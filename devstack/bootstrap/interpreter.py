"""Whether this interpreter has devstack's packages, and where one that has them would be.

Runs before every command that needs packages, so it imports little; making the environment is
`environment`'s part.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from devstack.bootstrap.ownership import is_ours

MARKER = "devstack-environment.json"
_LOCKS = Path(__file__).parent / "locks"
_LAYOUT = "1"
"""Raised when environments are filled in another way."""
_ENTERED = "DEVSTACK_ENTERED"
_entered_by = os.environ.pop(_ENTERED, "")  # at once: nothing we start is to have it
"""The process, which a start again keeps, and the interpreter it was started in."""


class BootstrapFailed(Exception):
    """The private environment cannot be made; `hint` is the next step."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def has_packages(group: str) -> bool:
    """Whether the packages of a lock are importable here; imports none of them.

    They are in a private environment of the current lock, and where devstack was installed as a
    distribution, whose installer saw to its dependencies. Packages that merely happen to be
    importable (a Linux distribution's old pydantic) do not count.
    """
    if _is_whole(Path(sys.prefix), group):
        return True
    return group == "runtime" and any(_has_distribution(entry) for entry in sys.path if entry)


def ready_python(group: str, environment: Mapping[str, str]) -> Path | None:
    """The interpreter of the private environment, where that was made."""
    place = environment_folder(group, environment)
    python = place / "bin" / "python"
    return python if is_ours(place) and _is_whole(place, group) and python.exists() else None


def environment_folder(group: str, environment: Mapping[str, str]) -> Path:
    """Named by everything that decides what is in it: interpreter, lock, layout."""
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    parts = (_LAYOUT, base, sys.version, lock_digest(group))
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return cache_folder(environment) / "envs" / f"{group}-{key}"


def cache_folder(environment: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/devstack`, by default `~/.cache/devstack`; not created here."""
    base = environment.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "devstack"
    home = environment.get("HOME", "")
    root = Path(home) if Path(home).is_absolute() else Path("~").expanduser()
    return root / ".cache" / "devstack"


def lock_path(name: str) -> Path:
    return _LOCKS / f"pylock.{name}.toml"


def lock_digest(name: str) -> str:
    """SHA-256 of a shipped lock's bytes: nothing is parsed."""
    try:
        return hashlib.sha256(lock_path(name).read_bytes()).hexdigest()
    except OSError as exc:
        raise BootstrapFailed(f"cannot read the lock {lock_path(name)}: {exc.strerror}") from exc


def write_marker(place: Path, group: str) -> None:
    marker = {"group": group, "lock": lock_digest(group)}
    (place / MARKER).write_text(json.dumps(marker), "utf-8")


def module_command(module: str) -> tuple[str, ...]:
    """How to run the `main` of a module of ours with this interpreter, from any folder.

    Isolated, so that neither PYTHONPATH nor the current folder puts other packages first.
    """
    root = str(Path(__file__).parents[2])
    code = f"import sys; sys.path.insert(0, {root!r}); from {module} import main; sys.exit(main(sys.argv[1:]))"
    return (sys.executable, "-I", "-c", code)


def enter(python: Path, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `python ARGUMENTS`, once: where it comes back here, it never ends.

    Raises `BootstrapFailed`.
    """
    mark = f"{os.getpid()} {python}"
    if _entered_by == mark:
        place = python.parent.parent
        raise BootstrapFailed(
            f"cannot use devstack's private environment {place}: its Python does not have its packages",
            f"remove it: rm -r {place}",
        )
    os.environ[_ENTERED] = mark
    become([str(python), *arguments])


def become(argv: Sequence[str]) -> NoReturn:
    """Replace this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(argv[0], list(argv))  # noqa: S606 - the same command again, in another interpreter


def _is_whole(prefix: Path, group: str) -> bool:
    """Whether `prefix` is a private environment of the current lock; dev holds runtime too.

    Asked from within and from without, so that both say the same of one that a power cut emptied.
    """
    try:
        marker = json.loads((prefix / MARKER).read_text("utf-8"))
        made_for = str(marker["group"])
        is_current = marker["lock"] == lock_digest(made_for) and (
            "home" in (prefix / "pyvenv.cfg").read_text("utf-8")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return is_current and (made_for == group or (made_for, group) == ("dev", "runtime"))


def _has_distribution(folder: str) -> bool:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names only, and many
    except OSError:
        return False
    return any(name.startswith("devstack_up-") and name.endswith(".dist-info") for name in names)
