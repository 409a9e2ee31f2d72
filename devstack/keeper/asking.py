"""Who is sent a signal when a process is to end: itself, what stands behind its shell, what it left.

A shell acts on a signal when its foreground program has ended (POSIX, XCU 2.11), and hands it to
nobody. Debian's `sh` stays in front of even the only program of `sh -c`; others become it.
"""

from __future__ import annotations

import os
import signal

from devstack.keeper import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.keeper.processes import Process
    from devstack.keeper.roster import Child, Roster

_SHELLS = frozenset({b"ash", b"bash", b"dash", b"ksh", b"sh", b"zsh"})


def send(child: Child, number: int) -> None:
    """Signal the main process alone; raises PermissionError.

    Our own children are not reaped yet, so their pid is theirs; others are named exactly.
    """
    try:
        if child.adopted >= 0:
            signal.pidfd_send_signal(child.adopted, number)
        else:
            os.kill(child.pid, number)
    except ProcessLookupError:
        return


def ask(child: Child, number: int, roster: Roster) -> None:
    """Signal all that the main process would pass a signal on to if it were no shell.

    Raises PermissionError. What the main process leaves is asked when it has ended.
    """
    child.stopping = True
    child.stop_signal = number
    child.asked.clear()
    if child.exit is not None:
        ask_orphans(child, roster)
        return
    behind = _behind_shells(child.pid, number)
    # before them: a shell whose program ended would go on to the next
    send(child, number)
    send(child, signal.SIGCONT)
    for process in behind:
        _ask_also(child, process)


def ask_orphans(child: Child, roster: Roster) -> None:
    """Signal what a process left, each once."""
    for orphan in roster.orphans_of(child):
        if orphan.identity not in child.asked:
            _ask_also(child, orphan)


def _ask_also(child: Child, process: Process) -> None:
    child.asked.add(process.identity)
    is_lost = processes.ignores(process.pid, child.stop_signal)
    processes.send(process, signal.SIGTERM if is_lost else child.stop_signal)
    processes.send(process, signal.SIGCONT)


def _behind_shells(pid: int, number: int) -> list[Process]:
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
            found += [process, *_behind_shells(child, number)]
    return found


def _is_shell(pid: int) -> bool:
    """By its command line of this moment: a shell that became its program is none any more."""
    program = processes.read_file(f"/proc/{pid}/cmdline").split(b"\0", 1)[0]
    return program.rpartition(b"/")[2].lstrip(b"-") in _SHELLS
