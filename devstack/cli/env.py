"""`devstack env SERVICE`: each of its variables, with the origin."""

from __future__ import annotations

import sys

from devstack.cli import talk
from devstack.cli.call import Call, show_listing
from devstack.cli.options import read

USAGE = """\
usage: devstack env SERVICE [--json]

The environment of the service's replicas: each variable, where it comes from, what it overrides.
Values that are secrets are masked.

  --json    one object, see api/schemas/env.json
"""


def run(call: Call) -> int:
    """Print what the controller rendered."""
    options = read(
        call.command, call.words, flags={"--json": "json"}, least=1, most=1, wants="a service"
    )
    return show_listing(
        call,
        "env",
        service=options.arguments[0],
        json="json" in options,
        colour=not talk.is_plain(sys.stdout),
    )
