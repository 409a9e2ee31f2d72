"""`devstack logs`: what services wrote, read from the files; no controller is needed."""

from __future__ import annotations

import sys
import time

from devstack.api.checkout import logs_folder
from devstack.cli import talk
from devstack.cli.options import read
from devstack.logs import render
from devstack.logs.query import CURRENT, Query, QueryError, parse_level, parse_since
from devstack.logs.reader import LogStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from devstack.cli.call import Call
    from devstack.cli.options import Options
    from devstack.logs.cursor import Item

USAGE = """\
usage: devstack logs [SERVICE…] [-f] [OPTIONS]

What services wrote in the newest run, merged by time. Works with no stack running.

  -f, --follow       go on with what comes
  -n, --tail N       only the last N lines
  --since WHEN       10m, 1h30m, 15:04, 2026-01-31T15:04:05Z
  --grep PATTERN     lines that match a regular expression
  --level LEVEL      trace, debug, info, warn, error, fatal: at least so severe
  --run RUN          current (usual), previous, all, or the id of a run
  --build            only the output of preparing
  --times            with the time of each line
  --raw              exactly the bytes that were written, without names
  --json             one object for each line, see api/schemas/logs.json
"""

SHORTEST_WAIT, LONGEST_WAIT = 0.01, 0.05
_BATCH = 1000


def run(call: Call) -> int:
    """Print what there is, and with -f what comes."""
    options = read(
        call.command,
        call.words,
        flags={
            "-f": "follow",
            "--follow": "follow",
            "--raw": "raw",
            "--json": "json",
            "--build": "build",
            "--times": "times",
        },
        values={
            "-n": "--tail",
            "--tail": "--tail",
            "--since": "--since",
            "--grep": "--grep",
            "--level": "--level",
            "--run": "--run",
        },
        most=None,
    )
    if "raw" in options and "json" in options:
        raise talk.usage_error("cannot print raw bytes as JSON", "leave out --raw or --json")
    store = LogStore(logs_folder(call.stack_file(must_exist=False)))
    try:
        query = _query(options)
        write = writer(store.services(), options)
        if "follow" not in options:
            _write_all(write, store.read(query))
        else:
            _follow(write, store, query)
    except QueryError as wrong:
        raise talk.usage_error(wrong.message, wrong.hint) from wrong
    return talk.FINE


def _query(options: Options) -> Query:
    since, level = options.value("--since"), options.value("--level")
    return Query(
        services=tuple(options.arguments),
        streams="build" if "build" in options else "all",
        since_ns=None if since is None else parse_since(since),
        tail=options.number("--tail"),
        grep=options.value("--grep"),
        level=None if level is None else parse_level(level),
        run=options.value("--run") or CURRENT,
    )


def writer(names: Iterable[str], options: Options) -> Callable[[Item], bytes]:
    """How one line is written, by the options."""
    if "raw" in options:
        return render.raw_bytes
    if "json" in options:
        import json

        return lambda item: (
            json.dumps(render.line_object(item), ensure_ascii=False).encode() + b"\n"
        )
    renderer = render.Renderer(
        options.arguments or names,
        colour=not talk.is_plain(sys.stdout),
        times="times" in options,
    )
    return lambda item: renderer.render(item).encode("utf-8", "replace") + b"\n"


def _write_all(write: Callable[[Item], bytes], items: Iterable[Item]) -> bool:
    """Write a batch to its end, so that a reader of a pipe has it; whether there was anything."""
    out = sys.stdout.buffer
    found = False
    pieces: list[bytes] = []
    for item in items:
        found = True
        pieces.append(write(item))
        if len(pieces) >= _BATCH:
            out.write(b"".join(pieces))
            pieces.clear()
    if found:
        out.write(b"".join(pieces))
        out.flush()
    return found


def _follow(write: Callable[[Item], bytes], store: LogStore, query: Query) -> None:
    from devstack.logs.follow import Follower

    follower = Follower(store, query)
    try:
        _write_all(write, follower.history())
        wait = SHORTEST_WAIT
        while True:
            found = _write_all(write, follower.poll())
            wait = SHORTEST_WAIT if found else min(wait * 1.5, LONGEST_WAIT)
            time.sleep(wait)  # files cannot be awaited, see logs.follow
    finally:
        follower.close()
