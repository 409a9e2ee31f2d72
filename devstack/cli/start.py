"""`devstack start SERVICE…`: ends what `stop` did."""

from __future__ import annotations

from devstack.cli import changes

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
    return changes.change_each(call)
