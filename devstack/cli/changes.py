"""What the commands share that change single services: several at once, told while they go on."""

from __future__ import annotations

import sys
from itertools import islice

from devstack.api.client import Answer, Client, Lost, OtherProtocol
from devstack.api.wire import MOST_REQUESTS, PROTOCOL
from devstack.cli import talk
from devstack.cli.options import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devstack.cli.call import Call

WAITING = {"--no-wait": "no-wait"}
TIMEOUT = {"--timeout": "--timeout"}
USUAL_SECONDS = 300.0
_AT_ONCE = MOST_REQUESTS // 2
"""A request that ended may still be counted over there when the next arrives."""


def sweep_first(call: Call) -> None:
    """End what a dead run of this stack left, as commands that change something do."""
    from devstack.keeper.sweep import sweep

    for dead in sweep([call.places()], kill=True):
        talk.say(str(dead))


def ask_all(client: Client, requests: Sequence[tuple[str, Mapping[str, object]]]) -> int:
    """Requests side by side, as many as are taken at once; each outcome is told as it comes.

    The worst code is ours.
    """
    hello = client.greet()
    if hello.protocol != PROTOCOL:
        raise OtherProtocol(hello)
    left = iter(requests)
    waiting = {client.send(do, **arguments) for do, arguments in islice(left, _AT_ONCE)}
    is_watched = sys.stderr.isatty()
    worst = talk.FINE
    while waiting:
        message = client.wait()
        number = message.get("id")
        if number not in waiting:
            continue
        data = message.get("data")
        if isinstance(data, dict) and is_watched:
            _tell(data.get("told"))
        if "end" in message:
            waiting.discard(number)
            waiting.update(client.send(do, **arguments) for do, arguments in islice(left, 1))
            answer = Answer(message["end"])
            worst = max(worst, talk.finish(answer.exit_code, answer.lines))
    return worst


def change_each(call: Call) -> int:
    """What the command is called, asked for each service it names: `restart`, `start`, `stop`."""
    options = read(
        call.command,
        call.words,
        flags=WAITING,
        values=TIMEOUT,
        least=1,
        most=None,
        wants="a service",
    )
    seconds = options.seconds("--timeout", USUAL_SECONDS)
    return ask_each(call, options.arguments, timeout=seconds, no_wait="no-wait" in options)


def ask_each(call: Call, names: Sequence[str], *, timeout: float, no_wait: bool = False) -> int:
    """One request for each name, side by side."""
    client = call.reach(sweeps=True)
    sweep_first(call)
    try:
        return ask_all(
            client,
            [
                (call.command, {"service": name, "timeout": timeout, "no_wait": no_wait})
                for name in names
            ],
        )
    except Lost as gone:
        raise lost(client) from gone


def lost(client: Client) -> talk.Failed:
    """What to say when the controller is gone before it answered."""
    return talk.Failed(
        f"cannot tell how it went: the controller (pid {client.greet().pid}) ended meanwhile",
        "devstack status tells what runs",
    )


def _tell(told: object) -> None:
    if not isinstance(told, dict) or told.get("progress") is not None:
        return
    service = told.get("service")
    talk.say(f"{service}: {told.get('text')}" if service else str(told.get("text")))
