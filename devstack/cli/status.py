"""`devstack status`: what runs, and why something does not."""

from __future__ import annotations

import sys

from devstack.cli import talk
from devstack.cli.options import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.cli.call import Call

USAGE = """\
usage: devstack status [--json]

Each service in one line: state, ready replicas, age, address; below it why it is not ready.
States: preparing waiting starting ready degraded flapping backing-off crash-loop failed stopping
stopped done unknown.

  --json    one object, see api/schemas/status.json
"""


def run(call: Call) -> int:
    """Print what the controller rendered."""
    options = read(call.command, call.words, flags={"--json": "json"})
    client = call.reach()
    colour = not talk.is_plain(sys.stdout)
    answer = client.ask("status", json="json" in options, colour=colour)
    return talk.finish(answer.exit_code, answer.lines)
