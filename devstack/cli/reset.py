"""`devstack reset DATABASE`: its data is dropped and made anew, seeds included."""

from __future__ import annotations

from devstack.cli import changes, talk
from devstack.cli.options import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.cli.call import Call

USAGE = """\
usage: devstack reset DATABASE… [--yes] [--timeout SECONDS]

Stops the database, removes its data folder and makes it anew with its seeds.

  -y, --yes            do not ask; without a terminal it must be there
  --timeout SECONDS    wait no longer (300)
"""


def run(call: Call) -> int:
    """Ask, then reset all that are named; where one of them cannot be, nobody is asked."""
    options = read(
        call.command,
        call.words,
        flags={"-y": "yes", "--yes": "yes"},
        values=changes.TIMEOUT,
        least=1,
        most=None,
        wants="a database",
    )
    seconds = options.seconds("--timeout", changes.USUAL_SECONDS)
    client = call.reach(sweeps=True)
    refused = changes.ask_all(
        client, [("may-reset", {"service": name}) for name in options.arguments]
    )
    client.close()
    if refused:
        return refused
    names = ", ".join(options.arguments)
    if "yes" not in options:
        again = f"devstack reset {' '.join(options.arguments)} --yes"
        talk.confirm(f"drop all data of {names}?", or_write=again)
    return changes.ask_each(call, options.arguments, timeout=seconds)
