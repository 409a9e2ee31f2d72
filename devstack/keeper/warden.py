"""The keeper's parent: it only waits, and when the keeper is killed ends what the kernel then hands it.

Both are child subreapers, so whichever is killed, the other inherits every process of the run: also
those that left their session, forked twice and dropped their environment.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket

from devstack.keeper import namespaces, processes
from devstack.keeper.keeper import Keeper
from devstack.keeper.kill import kill_until_none
from devstack.keeper.marks import read_run
from devstack.keeper.notes import note
from devstack.keeper.places import Places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.keeper.keeper import Options
    from devstack.keeper.processes import Identity, Process

KILL_SECONDS = 10.0


def run(options: Options) -> int:
    """Fork the keeper and wait; gives the exit code. What both imported before is shared memory."""
    namespaces.become_subreaper()
    ours, theirs = socket.socketpair()
    me = os.getpid(), processes.start_of(os.getpid())
    pid = os.fork()
    if pid == 0:
        ours.close()
        return _live_as_keeper(options, me, theirs)
    theirs.close()
    if options.ready >= 0:
        os.close(options.ready)
    namespaces.set_name("devstack-warden")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    keeper = os.pidfd_open(pid)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _ask_to_end(keeper))
    spared = _wait(keeper, ours, options.controller)
    return _clean_up(pid, options, spared)


def _ask_to_end(keeper: int) -> None:
    """By pidfd: once the keeper was reaped, its pid may be anybody's."""
    try:
        signal.pidfd_send_signal(keeper, signal.SIGTERM)
    except ProcessLookupError:
        return


def _live_as_keeper(options: Options, warden: Identity, line: socket.socket) -> int:
    namespaces.become_subreaper()
    namespaces.set_name("devstack-keeper")
    return Keeper(options, warden, line).run()


def _wait(keeper: int, line: socket.socket, controller: Identity) -> Identity:
    """Until the keeper (a pidfd) ends; gives the controller that it named last."""
    poll = select.poll()
    poll.register(keeper, select.POLLIN)
    poll.register(line, select.POLLIN)
    spared = controller
    told = b""
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if line.fileno() in ready:
            data = line.recv(4096)
            told += data
            *lines, told = told.split(b"\n")
            for name in lines:
                pid, start = name.split()
                spared = int(pid), int(start)
            if not data:
                poll.unregister(line)
        if keeper in ready:
            return spared


def _clean_up(keeper: int, options: Options, spared: Identity) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # ending is what it does already
    _, status = os.waitpid(keeper, 0)
    me = os.getpid()

    def find() -> list[Process]:
        table = processes.everything()
        found = processes.tree(table, [me], processes.pids_of(table, [spared]))
        return [process for process in found if process.pid != me]

    # one that ended in order has tried as long as it may
    ended = kill_until_none(find, _reap, KILL_SECONDS if status else 0.0)
    if status == 0:
        return 0
    places = Places(options.folder)
    _remove_stale_socket(places)
    note(f"the keeper ended with status {status}; killed: {len(ended.killed)}")
    run = read_run(options.folder, options.run_id)
    if run is not None:
        was_killed = os.WIFSIGNALED(status)
        failed = f"its keeper failed, see {places.keeper_log}"
        run.ended = "its keeper was killed" if was_killed else failed
        run.set_what_became(ended)
        run.write()
    return 1


def _reap() -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _remove_stale_socket(places: Places) -> None:
    """Only while nobody holds the keeper's lock: a new keeper may have come already."""
    try:
        lock = os.open(places.keeper_lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(places.keeper_socket)
    except OSError:
        return
    finally:
        os.close(lock)
