"""`devstack start SERVICE…`: ends what `stop` did."""

from __future__ import annotations

from devstack.cli import changes
from devstack.cli.options import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.cli.call import Call

USAGE = """\
usage: devstack start SERVICE… [--no-wait] [--timeout SECONDS]

Starts a service that devstack stop has stopped.

  --no-wait            return at once
  --timeout SECONDS    wait no longer (300)
"""


def run(call: Call) -> int:
    """Start all that are named, side by side."""
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
        "start",
        options.arguments,
        timeout=options.seconds("--timeout", changes.USUAL_SECONDS),
        no_wait="no-wait" in options,
    )
