"""`devstack schema`: the JSON Schema of the stack file, for editors."""

from devstack.cli import talk
from devstack.cli.call import Call
from devstack.cli.options import read
from devstack.config.schema_file import SCHEMA

USAGE = """\
usage: devstack schema

Prints the JSON Schema of stack.yaml. devstack up writes it to .devstack/schema.json; an editor uses
it with this first line: # yaml-language-server: $schema=./.devstack/schema.json
"""


def run(call: Call) -> int:
    """Print it."""
    read(call.command, call.words, flags={"--json": "json"})
    talk.data([SCHEMA.read_text().rstrip()])
    return talk.FINE
