"""`devstack status`: what runs, and why something does not."""

from __future__ import annotations

import sys

from devstack.cli import talk
from devstack.cli.call import Call, show_listing
from devstack.cli.options import read

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
    colour = not talk.is_plain(sys.stdout)
    return show_listing(call, "status", json="json" in options, colour=colour)
