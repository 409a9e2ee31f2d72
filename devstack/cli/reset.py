"""`devstack reset DATABASE`: its data is dropped and made anew, seeds included."""

from __future__ import annotations

import sys

from devstack.cli import changes, talk
from devstack.cli.options import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.cli.call import Call

USAGE = """\
usage: devstack reset DATABASE… [--yes] [--timeout SECONDS]

Stops the database, removes its data folder and makes it anew with its seeds.

  -y, --yes            do not ask
  --timeout SECONDS    wait no longer (300)
"""


def run(call: Call) -> int:
    """Ask, then reset all that are named."""
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
    names = ", ".join(options.arguments)
    if "yes" not in options and sys.stdin.isatty():
        confirm(f"drop all data of {names}?")
    return changes.ask_each(call, options.arguments, timeout=seconds)


def confirm(question: str) -> None:
    """Ask on the terminal; anything but yes ends the command."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise talk.Failed("nothing was removed")
