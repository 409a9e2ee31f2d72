"""`devstack scale NAME=N …`: how many replicas there are."""

from __future__ import annotations

from devstack.api.client import Lost
from devstack.cli import changes
from devstack.cli.options import read
from devstack.cli.talk import usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.cli.call import Call

USAGE = """\
usage: devstack scale NAME=N… [--no-wait] [--timeout SECONDS]

Returns when N replicas (200 at most) serve. The number stays until devstack down; NAME=file goes
back to the stack file's.

  --no-wait            return at once
  --timeout SECONDS    wait no longer (300)
"""


def run(call: Call) -> int:
    """Scale all that are named, side by side."""
    options = read(
        call.command,
        call.words,
        flags=changes.WAITING,
        values=changes.TIMEOUT,
        least=1,
        most=None,
        wants="NAME=N",
    )
    wanted: dict[str, int | None] = {}
    for name, count in map(_read, options.arguments):
        if name in wanted:
            raise usage_error(f"{name} is scaled to two numbers at once", "name it once")
        wanted[name] = count
    seconds = options.seconds("--timeout", changes.USUAL_SECONDS)
    no_wait = "no-wait" in options
    client = call.reach(sweeps=True)
    changes.sweep_first(call)
    try:
        return changes.ask_all(
            client,
            [
                (
                    "scale",
                    {"service": name, "replicas": count, "timeout": seconds, "no_wait": no_wait},
                )
                for name, count in wanted.items()
            ],
        )
    except Lost as gone:
        raise changes.lost(client) from gone


def _read(word: str) -> tuple[str, int | None]:
    name, equals, count = word.partition("=")
    if name and equals and count == "file":
        return name, None
    if not name or not equals or not (count.isascii() and count.isdigit()) or len(count) > 6:
        raise usage_error(
            f"cannot read '{word}'", "write NAME=3, or NAME=file for what the file says"
        )
    return name, int(count)
