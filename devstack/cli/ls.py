"""`devstack ls`: every stack of this user, wherever its folder is."""
# pathlib is kept out: commands start without it
# ruff: noqa: PTH110

from __future__ import annotations

import os
import time

from devstack.api.client import Silent, connect, has_keeper
from devstack.api.locate import PlaceRefused, read_entry, stacks
from devstack.cli import talk
from devstack.cli.options import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.api.locate import Places
    from devstack.cli.call import Call

USAGE = """\
usage: devstack ls [--json]

Every stack of this user that runs, or of which something is left: id, name, age, folder, ports.
devstack down --stack ID stops one, also where its folder is gone.
One with no-controller runs all the same: devstack up in its folder takes it over.

  --json    one object, see api/schemas/ls.json
"""


def run(call: Call) -> int:
    """Look into each run folder; no controller is asked more than whether it is there."""
    options = read(call.command, call.words, flags={"--json": "json"})
    try:
        found = [stack for place in stacks() if (stack := _stack(place)) is not None]
    except PlaceRefused as refused:
        raise talk.Failed(str(refused), refused.hint) from refused
    if "json" in options:
        import json

        talk.data([json.dumps({"schema": 1, "stacks": found}, indent=2, ensure_ascii=False)])
    elif not found:
        talk.say("no stack is running")
    else:
        talk.data(_table(found))
    return talk.FINE


def _stack(place: Places) -> dict[str, object] | None:
    entry = read_entry(place)
    client = None
    try:
        client = connect(place)
    except (OSError, Silent):
        state = "unknown"
    else:
        state = "running" if client is not None else _without_controller(place)
    if client is not None:
        client.close()
    elif not entry and not _has_record(place):
        return None
    folder, started = entry.get("folder"), entry.get("started_at")
    return {
        "id": place.stack_id,
        "name": entry.get("name"),
        "state": state,
        "folder": folder,
        "folder_exists": isinstance(folder, str) and os.path.exists(folder),
        "file": entry.get("file"),
        "started_at": _moment(started),
        "age_seconds": round(time.time() - started) if isinstance(started, float) else None,
        "gateway": entry.get("gateway"),
        "ports": entry.get("ports", []),
        "pid": entry.get("pid") if state == "running" else None,
    }


def _without_controller(place: Places) -> str:
    """Whether a keeper runs the stack all the same."""
    return "no-controller" if has_keeper(place) else "gone"


def _has_record(place: Places) -> bool:
    """Whether a run was recorded whose keeper may be gone."""
    return any(n.startswith("run-") and n.endswith(".json") for n in os.listdir(place.folder))  # noqa: PTH208 - a light start


def _table(found: list[dict[str, object]]) -> list[str]:
    from devstack.api.text import age, columns

    rows = [("ID", "NAME", "STATE", "AGE", "GATEWAY", "PORTS", "FOLDER")]
    for stack in found:
        seconds = stack["age_seconds"]
        folder = str(stack["folder"] or "-")
        rows.append(
            (
                str(stack["id"]),
                str(stack["name"] or "-"),
                str(stack["state"]),
                age(seconds) if isinstance(seconds, int) else "-",
                str(stack["gateway"] or "-"),
                ", ".join(map(str, _numbers(stack["ports"]))) or "-",
                folder if stack["folder_exists"] else f"{folder} (gone)",
            )
        )
    return columns(rows)


def _numbers(ports: object) -> list[int]:
    """The numbers that are dialled, of URLs such as `postgresql://127.64.0.2:5432/shop`."""
    found = ports if isinstance(ports, list) else []
    urls = [str(each["url"]) for each in found]
    texts = {url.partition("://")[2].partition("/")[0].rpartition(":")[2] for url in urls}
    return sorted(int(text) for text in texts if text.isascii() and text.isdigit())


def _moment(started: object) -> str | None:
    if not isinstance(started, float):
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
