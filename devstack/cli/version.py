"""`devstack version`: of this command, and of the controller where one runs."""

from __future__ import annotations

import sys

from devstack import __version__
from devstack.api.client import ANSWER_SECONDS, Silent
from devstack.api.wire import PROTOCOL
from devstack.cli import talk
from devstack.cli.call import reach
from devstack.cli.options import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.api.client import Hello
    from devstack.cli.call import Call

USAGE = """\
usage: devstack version [--json]

  --json    one object, see api/schemas/version.json
"""


def run(call: Call) -> int:
    """Print the versions; a stack is not needed."""
    options = read(call.command, call.words, flags={"--json": "json"})
    controller = _controller(call)
    python = ".".join(map(str, sys.version_info[:3]))
    if "json" in options:
        import json

        listing = {
            "schema": 1,
            "version": __version__,
            "protocol": PROTOCOL,
            "python": python,
            "controller": None
            if controller is None
            else {
                "pid": controller.pid,
                "version": controller.version,
                "protocol": controller.protocol,
            },
        }
        talk.data([json.dumps(listing, indent=2)])
        return talk.FINE
    talk.data([f"devstack {__version__} (protocol {PROTOCOL}, Python {python})"])
    if controller is not None:
        talk.data([f"controller {controller.version}, pid {controller.pid}"])
    return talk.FINE


def _controller(call: Call) -> Hello | None:
    try:
        client = reach(call.places())
        if client is None:
            return None
        client.limit(ANSWER_SECONDS)
        return client.greet()
    except talk.Failed:
        return None
    except Silent as silent:
        talk.say(str(silent))
        return None
