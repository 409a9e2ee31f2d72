"""`devstack down`: stops everything, also what a dead run left; with --volumes removes data, listed first."""
# pathlib is kept out: commands start without it
# ruff: noqa: PTH108, PTH114, PTH116, PTH119

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

from devstack.api.checkout import data_folders, hidden_root, wishes_file
from devstack.api.client import Client, Lost, Silent, has_keeper
from devstack.api.locate import Places, places_of, read_entry, remove_entry
from devstack.cli import talk
from devstack.cli.call import reach
from devstack.cli.options import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.cli.call import Call

USAGE = """\
usage: devstack down [--volumes] [--yes] [--stack ID]

Stops the stack, dependents first; nothing is left behind. Overrides of scale and stop end with it.
A controller that does not answer is ended with all it runs.

  --volumes     also remove the data of all databases, after listing it
  -y, --yes     do not ask before removing data
  --stack ID    the stack with this id (devstack ls), also where its folder is gone
"""

END_SECONDS = 15.0
EXIT_SECONDS = 5.0
"""A controller that has closed its last connection ends within some milliseconds."""
GENTLE_SECONDS = 12.0
"""A keeper that was asked to end needs a second, ten for its last command, and what killing takes."""
_STACK_ID = frozenset("0123456789abcdef")


def run(call: Call) -> int:
    """Stop the stack; fine as well when nothing runs."""
    options = read(
        call.command,
        call.words,
        flags={"--volumes": "volumes", "--yes": "yes", "-y": "yes"},
        values={"--stack": "--stack"},
    )
    stack_id = options.value("--stack")
    if stack_id is None:
        file = call.stack_file(must_exist=False)
        places = call.places()
    else:
        places = _named(stack_id)
        file = str(read_entry(places).get("file") or "")
    folders: list[str] = []
    if "volumes" in options:
        folders = data_folders(file, places.stack_id) if file else []
        _agree(folders, is_agreed="yes" in options)
    code, has_ended = _ask_controller(places, volumes="volumes" in options)
    has_ended |= _sweep(places)
    if code is None:
        code = talk.FINE
        remove_entry(places)
        if file:
            _forget_wishes(file)
        if not has_ended:
            talk.say("nothing was running")
    if code == talk.FINE:
        for folder in folders:
            _remove(folder, places.stack_id)
    return code


def _forget_wishes(file: str) -> None:
    try:
        os.unlink(wishes_file(file))
    except FileNotFoundError:
        pass
    except OSError as exc:
        from devstack.api.ownership import write_hint
        from devstack.core.blame import refusal

        raise talk.Failed(
            f"cannot forget what scale and stop asked for: {refusal(exc)}", write_hint(exc, file)
        ) from exc


def _named(stack_id: str) -> Places:
    places = places_of(stack_id)
    if not stack_id or not _STACK_ID.issuperset(stack_id) or not os.path.isdir(places.folder):  # noqa: PTH112 - a light start
        raise talk.usage_error(f"there is no stack '{stack_id}'", "devstack ls lists them")
    return places


def _agree(folders: list[str], *, is_agreed: bool) -> None:
    """Locks, and what was never whole, go without a word: their names begin with a dot."""
    data = [folder for folder in folders if not os.path.basename(folder).startswith(".")]
    if not data:
        talk.say("there is no data to remove")
        return
    talk.say("this data will be removed:", *(f"  {folder}" for folder in data))
    if not is_agreed:
        talk.confirm("remove it?", or_write="devstack down --volumes --yes")


def _ask_controller(places: Places, *, volumes: bool) -> tuple[int | None, bool]:
    """How the controller says it went, and whether anything was ended.

    None where there is none or it does not answer: all it ran is ended then.
    """
    hung = 0
    try:
        client = _reach_awake(places)
        if client is not None:
            return _ask(client, volumes=volumes), True
    except Silent as silent:
        if not silent.pid:
            raise talk.Failed(str(silent), f"its log is {places.controller_log}") from silent
        hung = silent.pid
        talk.say(f"{silent}: ending it and all it runs")
    if hung or has_keeper(places):
        _end_all(places, hung)
    return None, hung > 0


def _reach_awake(places: Places) -> Client | None:
    """As `reach`; one that was stopped until nobody else could wait for it gets to go on first."""
    try:
        return reach(places)
    except Silent as silent:
        _wake(silent)
        return reach(places)


def _wake(silent: Silent) -> None:
    talk.say(f"{silent}: it is woken, and ended with all it runs if it still does not")
    if silent.pid:
        _signal(silent.pid, signal.SIGCONT)


def _ask(client: Client, *, volumes: bool) -> int:
    is_terminal = not talk.is_plain(sys.stderr)

    def wake(silent: Silent) -> None:
        if is_terminal:
            sys.stderr.write("\r\x1b[K")
        _wake(silent)

    def show(data: dict[str, object]) -> None:
        stopping = data.get("stopping")
        if is_terminal and isinstance(stopping, list):
            sys.stderr.write(f"\r\x1b[K{stopping_text(stopping)}"[:200])
            sys.stderr.flush()

    client.wait_patiently(wake)
    try:
        answer = client.ask("down", show, volumes=volumes)
    except Lost as gone:
        raise talk.Failed(
            "cannot tell how it went: the controller ended before it answered",
            "devstack down once more ends what is left",
        ) from gone
    finally:
        if is_terminal:
            sys.stderr.write("\r\x1b[K")
    code = talk.finish(answer.exit_code, answer.lines)
    _await_end(client)
    return code


def stopping_text(stopping: list[object]) -> str:
    """`stopping… orders.1 (killed in 8 s), auth-db.1`; the word alone when nothing is known."""
    words = []
    for entry in stopping:
        if isinstance(entry, list) and len(entry) == 2:
            name, left = str(entry[0]).partition("#")[0], entry[1]
            words.append(name if left is None else f"{name} (killed in {left} s)")
    shown = ", ".join(words[:6]) + (f" and {len(words) - 6} more" if len(words) > 6 else "")
    return f"stopping… {shown}".rstrip()


def _await_end(client: Client) -> None:
    """Until the controller has closed the connection, when its socket is gone too, and has ended."""
    from devstack.keeper import processes

    controller = processes.look(client.peer_pid)
    try:
        while True:
            client.wait()
    except Lost:
        client.close()
    deadline = time.monotonic() + EXIT_SECONDS
    while controller is not None and processes.is_running(controller.identity):
        if time.monotonic() > deadline:
            return  # nothing of the stack's is left in it
        time.sleep(0.002)  # not our child: nothing to wait for


def _end_all(places: Places, hung: int) -> None:
    """End what no controller will: a keeper ends what it started, and its warden what is left then.

    `hung` is the pid of a controller that does not answer, or 0.
    """
    from devstack.keeper import processes
    from devstack.keeper.marks import runs_in

    runs = [run for run in runs_in(places.folder) if processes.is_running(run.keeper)]
    doomed = [identity for run in runs for identity in (run.keeper, run.warden)]
    for run in runs:  # before the controller: a keeper that is not ending starts another one
        _signal(run.keeper[0], signal.SIGTERM)
        for pid, _ in (run.keeper, run.warden):
            _signal(pid, signal.SIGCONT)
    if hung:
        doomed.append((hung, processes.start_of(hung)))
        _signal(hung, signal.SIGKILL)
    started = time.monotonic()
    is_gentle = True
    while any(map(processes.is_running, doomed)):
        passed = time.monotonic() - started
        if passed > GENTLE_SECONDS and is_gentle:
            is_gentle = False
            for run in runs:
                _signal(run.keeper[0], signal.SIGKILL)
        if passed > GENTLE_SECONDS + END_SECONDS:
            raise talk.Failed(
                "cannot stop what runs without a controller", f"look into {places.keeper_log}"
            )
        time.sleep(0.02)  # not our child: nothing to wait for


def _signal(pid: int, number: int) -> None:
    """To one that may have gone meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _sweep(places: Places) -> bool:
    from devstack.keeper.sweep import sweep

    dead = sweep([places], kill=True)
    for run in dead:
        talk.say(str(run))
    return bool(dead)


def _remove(path: str, stack_id: str) -> None:
    if not os.path.lexists(path):
        return
    root = hidden_root(stack_id)
    if path.startswith(root + os.sep) and os.stat(root).st_uid != os.geteuid():
        raise talk.Failed(f"cannot remove {path}: {root} is not ours")
    import shutil

    try:
        if os.path.islink(path) or os.path.isfile(path):  # noqa: PTH113 - a light start
            os.unlink(path)
        else:
            shutil.rmtree(path)
    except OSError as exc:
        raise talk.Failed(
            f"cannot remove {exc.filename or path}: {(exc.strerror or str(exc)).lower()}"
        ) from exc
