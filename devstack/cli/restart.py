"""`devstack restart SERVICE…`: new replicas of the current source."""

from __future__ import annotations

from devstack.cli import changes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.cli.call import Call

USAGE = """\
usage: devstack restart SERVICE… [--no-wait] [--timeout SECONDS]

Prepares the current source and replaces the replicas by the service's update rule. A source that does
not build or never gets ready leaves the old replicas serving: exit code 1.

  --no-wait            return at once
  --timeout SECONDS    wait no longer (300)
"""


def run(call: Call) -> int:
    """Restart all that are named, side by side."""
    return changes.change_each(call)
