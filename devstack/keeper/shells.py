"""What stands behind a shell: a signal that the shell is sent does not reach it.

A shell acts on a signal when its foreground program has ended (POSIX, XCU 2.11), and hands it to
nobody. Debian's `sh` stays in front of even the only program of `sh -c`; others become it.
"""

from __future__ import annotations

import signal

from devstack.keeper import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.keeper.processes import Process

_SHELLS = frozenset({b"ash", b"bash", b"dash", b"ksh", b"sh", b"zsh"})


def behind_shells(pid: int, number: int) -> list[Process]:
    """What a process waits for that is a shell and has no trap for this signal, shell by shell.

    Every shell catches INT, which a terminal sends to all that runs in its foreground.
    """
    has_trap = number != signal.SIGINT and processes.catches(pid, number)
    if has_trap or not _is_shell(pid):
        return []
    found: list[Process] = []
    for child in processes.children_of(pid):
        process = processes.look(child)
        if process is not None and process.is_alive:
            found += [process, *behind_shells(child, number)]
    return found


def _is_shell(pid: int) -> bool:
    """By its command line of this moment: a shell that became its program is none any more."""
    program = processes.read_file(f"/proc/{pid}/cmdline").split(b"\0", 1)[0]
    return program.rpartition(b"/")[2].lstrip(b"-") in _SHELLS
