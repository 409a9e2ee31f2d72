"""`devstack stop SERVICE…`: down until started again."""

from __future__ import annotations

from devstack.cli import changes
from devstack.cli.options import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.cli.call import Call

USAGE = """\
usage: devstack stop SERVICE… [--no-wait] [--timeout SECONDS]

Ends the service's replicas; it stays down until devstack start, or until devstack down.

  --no-wait            return at once
  --timeout SECONDS    wait no longer (300)
"""


def run(call: Call) -> int:
    """Stop all that are named, side by side."""
    options = read(
        call.command,
        call.words,
        flags=changes.WAITING,
        values=changes.TIMEOUT,
        least=1,
        most=None,
        wants="a service",
    )
    return changes.ask_each(
        call,
        "stop",
        options.arguments,
        timeout=options.seconds("--timeout", changes.USUAL_SECONDS),
        no_wait="no-wait" in options,
    )
