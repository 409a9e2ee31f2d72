"""Starting a keeper: the one process that a controller starts itself.

Apart from the client because a controller does this before it imports what it talks with: the keeper
comes up while the controller's half a thousand modules load.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time

from devstack import __version__
from devstack.keeper import processes
from devstack.keeper.places import Places

INTERPRETER_OPTIONS = ("-I", "-S", "-X", "utf8")
ENTRY_FILE = b"/devstack/keeper/main.py"
FOLDER_OPTION = "--folder"


class Starting:
    """A warden with its keeper on their way: what they are known by."""

    __slots__ = ("pid", "ready", "run_id")

    def __init__(self, pid: int, ready: int, run_id: str) -> None:
        self.pid = pid
        """The warden's: our child."""
        self.ready = ready
        """A descriptor on which it says `ready`, or why it is not."""
        self.run_id = run_id


def new_run_id() -> str:
    """An id for one life of a keeper; ids sort by time."""
    return f"{int(time.time() * 1000):012x}-{os.urandom(2).hex()}"


def spawn_keeper(
    places: Places, *, run_id: str | None = None, open_files: int | None = None
) -> Starting:
    """Start a warden with its keeper, without a wait. `open_files` is the soft limit children get.

    Raises OSError.
    """
    run = run_id or new_run_id()
    me = os.getpid()
    reader, writer = os.pipe()
    try:
        writer = _move_above_standard(writer)
        os.set_inheritable(writer, True)
        argv = [sys.executable, *INTERPRETER_OPTIONS, _entry_file()]
        argv += [FOLDER_OPTION, places.folder, "--run", run, "--version", __version__]
        argv += ["--controller", f"{me}:{processes.start_of(me)}", "--ready", str(writer)]
        if open_files is not None:
            argv += ["--open-files", str(open_files)]
        log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            sys.executable,
            argv,
            {name: value for name, value in os.environ.items() if not name.startswith("DEVSTACK_")},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, places.keeper_log, log_flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGCHLD,),  # ignored by who called us, no end could be waited for
        )
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return Starting(pid, reader, run)


def is_keeper(argv: list[bytes]) -> bool:
    """Whether a command line is a warden's or a keeper's, of whatever version and checkout."""
    options = [option.encode() for option in INTERPRETER_OPTIONS]
    entry = 1 + len(options)
    return (
        argv[1:entry] == options
        and argv[entry + 1 : entry + 2] == [FOLDER_OPTION.encode()]
        and argv[entry].endswith(ENTRY_FILE)
    )


def _entry_file() -> str:
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "main.py")


def _move_above_standard(descriptor: int) -> int:
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved
