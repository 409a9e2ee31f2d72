"""Every command in a line: its name, its module, what it does. Read before anything is imported."""

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up", "start the stack, or apply a changed stack file, and follow it"),
    "down": ("down", "stop everything; --volumes also removes data"),
    "status": ("status", "what runs, and why something does not"),
    "why": ("why", "what a service is waiting for, or why it failed"),
    "logs": ("logs", "what services wrote; works without a running stack"),
    "scale": ("scale", "set how many replicas there are: scale orders=3"),
    "restart": ("restart", "replace the replicas of services by their current source"),
    "stop": ("stop", "stop services"),
    "start": ("start", "start services that were stopped"),
    "reset": ("reset", "drop a database's data and make it anew"),
    "env": ("env", "each variable of a service, with its origin"),
    "endpoints": ("endpoints", "where everything can be reached"),
    "ls": ("ls", "every stack of this user"),
    "validate": ("validate", "check the stack file"),
    "schema": ("schema", "the JSON Schema of the stack file"),
    "version": ("version", "versions of devstack and of the running controller"),
    "help": ("help", "this page, or the one of a command"),
}

OVERVIEW = """\
devstack: one stack.yaml brings up a microservice system, and keeps it up

usage: devstack [-f FILE] [-C DIR] COMMAND [OPTIONS]

{commands}

  -f, --file FILE        the stack file; else stack.yaml here or in a folder above
  -C, --directory DIR    work as if started in DIR

devstack COMMAND --help tells the options of a command.
Exit codes: 0 fine, 1 failed, 2 usage or stack file, 3 no controller, 130 interrupted, 143 terminated.
"""


def overview() -> str:
    """The text of `devstack --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return OVERVIEW.format(commands="\n".join(lines))
