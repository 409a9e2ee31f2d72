"""`devstack endpoints`: where everything can be reached from this machine."""

from __future__ import annotations

import sys

from devstack.cli import talk
from devstack.cli.call import Call, show_listing
from devstack.cli.options import read

USAGE = """\
usage: devstack endpoints [--json]

The gateway with its routes, and the stable address of each service.

  --json    one object, see api/schemas/endpoints.json
"""


def run(call: Call) -> int:
    """Print what the controller rendered."""
    options = read(call.command, call.words, flags={"--json": "json"})
    colour = not talk.is_plain(sys.stdout)
    return show_listing(call, "endpoints", json="json" in options, colour=colour)
