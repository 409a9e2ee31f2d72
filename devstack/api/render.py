"""How listings look to people; made in the controller, so that a command only prints.

Values come from `listings`. Colour is the client's wish: it alone knows what its output is.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from devstack.api.text import age, columns, one_line, printable
from devstack.core.view import Word

_COLOURS = {
    "ready": 32,
    "done": 32,
    "degraded": 33,
    "flapping": 33,
    "starting": 36,
    "preparing": 36,
    "waiting": 36,
    "stopping": 36,
    "backing-off": 33,
    "crash-loop": 31,
    "failed": 31,
    "unknown": 31,
}
_MARKS = {"ready": "●", "done": "●", "stopped": "○", "failed": "✗", "crash-loop": "✗"}
_OTHER_MARK = "◐"
_REASON_INDENT = "    "
_DIM, _BOLD = 2, 1


class Paint:
    """Adds colours, or does not."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, code: int | None) -> str:
        if not self._colour or code is None or not text:
            return text
        return f"\x1b[{code}m{text}\x1b[0m"


def status_lines(status: Mapping[str, Any], now: float, *, colour: bool) -> list[str]:
    """`devstack status`."""
    paint = Paint(colour=colour)
    services: Sequence[Mapping[str, Any]] = status["services"]
    settled = sum(Word(s["state"]).is_settled for s in services)
    head = [paint(status["stack"] or "no stack", _BOLD), f"{settled} of {len(services)} settled"]
    if status["gateway"]:
        head.insert(1, status["gateway"])
    lines = ["  ".join(head), ""]
    rows: list[Sequence[str]] = [("", "NAME", "STATE", "READY", "RESTARTS", "AGE", "URL")]
    rows.extend(_status_row(service, now) for service in services)
    table = columns(rows)
    lines.append(paint(table[0], _DIM))
    for service, text in zip(services, table[1:], strict=True):
        lines.append(_coloured(text, service["state"], paint))
        if service["reason"]:
            lines.append(_REASON_INDENT + paint(one_line(service["reason"]), _DIM))
    notes = [f"{s['name']}: {w}" for s in services for w in s["warnings"]] + status["notes"]
    if notes:
        lines += ["", *(f"{paint('!', 33)} {one_line(note)}" for note in notes)]
    return lines


def _status_row(service: Mapping[str, Any], now: float) -> tuple[str, ...]:
    replicas = service["replicas"]
    started = [r["started_at"] for r in replicas if r["started_at"]]
    ready = f"{service['ready']}/{service['desired']}"
    if service["overridden"] and service["desired"] != service["file_replicas"]:
        ready += f" (file says {service['file_replicas']})"
    return (
        _MARKS.get(service["state"], _OTHER_MARK),
        service["name"],
        service["state"],
        ready,
        str(service["restarts"]),
        age(now - max(map(_seconds, started))) if started else "-",
        service["url"] or "-",
    )


def _coloured(text: str, state: str, paint: Paint) -> str:
    code = _COLOURS.get(state, _DIM)
    mark, rest = text[:1], text[1:]
    before, word, after = rest.partition(f" {state} ")
    return paint(mark, code) + before + (f" {paint(state, code)} " if word else "") + after


def endpoint_lines(listing: Mapping[str, Any], *, colour: bool) -> list[str]:
    """`devstack endpoints`."""
    paint = Paint(colour=colour)
    rows = [("NAME", "URL", "PORTS")]
    if listing["gateway"]:
        routes = ", ".join(f"{r['path']} → {r['to']}" for r in listing["routes"])
        rows.append(("gateway", listing["gateway"], routes or "-"))
    for endpoint in listing["endpoints"]:
        ports = ", ".join(f"{p['port']}/{p['scheme']}" for p in endpoint["ports"])
        rows.append((endpoint["service"], endpoint["url"] or "-", ports))
    table = columns(rows)
    return [paint(table[0], _DIM), *table[1:]]


def environment_lines(listing: Mapping[str, Any], *, colour: bool) -> list[str]:
    """`devstack env SERVICE`: assignments, with the origin behind them as a comment."""
    paint = Paint(colour=colour)
    lines: list[str] = []
    for variable in listing["variables"]:
        origin = variable["origin"]
        if variable["overrides"]:
            origin += f", over {', '.join(variable['overrides'])}"
        value = printable(variable["value"])
        lines.append(f"{variable['name']}={value}  {paint(f'# {origin}', _DIM)}")
    return lines


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
