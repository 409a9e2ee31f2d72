"""`devstack stop SERVICE…`: down until started again."""

from __future__ import annotations

from devstack.cli import changes

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
    return changes.change_each(call)
