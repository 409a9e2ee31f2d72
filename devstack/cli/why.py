"""`devstack why SERVICE`: what it is waiting for, or why it failed."""

from __future__ import annotations

from devstack.cli.call import Call, show_listing
from devstack.cli.options import read

USAGE = """\
usage: devstack why SERVICE [--json]

What the service is waiting for, or why it failed, with its last words.

  --json    one object, see api/schemas/why.json
"""


def run(call: Call) -> int:
    """Print what the controller says."""
    options = read(
        call.command, call.words, flags={"--json": "json"}, least=1, most=1, wants="a service"
    )
    return show_listing(call, "why", service=options.arguments[0], json="json" in options)
