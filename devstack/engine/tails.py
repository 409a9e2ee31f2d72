"""The last lines that a replica wrote, for the message of its end: told and kept, so without secrets."""

from collections.abc import Collection
from pathlib import Path

from devstack.engine.covers import covered
from devstack.logs.ansi import plain_text
from devstack.logs.format import file_name, parse_file_name

MOST_BYTES = 16384
MOST_LINES = 20
LONGEST_LINE = 500


def last_lines(folder: Path, producer: str, secrets: Collection[str]) -> tuple[str, ...]:
    """At most twenty lines from the end of a producer's newest segment; none where there is no log.

    Secrets (of `covers.secrets_among`) are covered.
    """
    segment = 0
    try:
        names = [name.name for name in folder.iterdir()]
    except OSError:
        return ()
    for name in names:
        parsed = parse_file_name(name)
        if parsed is not None and parsed[0] == producer and parsed[1] == "log":
            segment = max(segment, parsed[2])
    try:
        with (folder / file_name(producer, "log", segment)).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MOST_BYTES))
            data = file.read()
    except OSError:
        return ()
    lines = [plain_text(line).rstrip() for line in data.splitlines()[-MOST_LINES:]]
    return tuple(covered(line, secrets)[:LONGEST_LINE] for line in lines)
