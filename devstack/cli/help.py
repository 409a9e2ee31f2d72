"""`devstack help [COMMAND]`: the overview, or the page of one command."""

from __future__ import annotations

from devstack.cli import talk
from devstack.cli.options import read
from devstack.cli.table import COMMANDS, overview

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.cli.call import Call

USAGE = """\
usage: devstack help [COMMAND]
"""


def run(call: Call) -> int:
    """Print a page."""
    options = read(call.command, call.words, most=1)
    if not options.arguments:
        talk.data([overview().rstrip()])
        return talk.FINE
    name = options.arguments[0]
    if name not in COMMANDS:
        raise talk.usage_error(f"there is no command '{name}'", "devstack help lists them")
    module = __import__(f"devstack.cli.{COMMANDS[name][0]}", fromlist=["USAGE"])
    talk.data([module.USAGE.rstrip()])
    return talk.FINE
