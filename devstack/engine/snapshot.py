"""What survives the controller: wishes, revisions, counters, last exits, and the newest lines.

Not what runs: that is known from the keeper alone. Written atomically (a temporary name in the same
folder, then renamed) whenever it changed; dropped when the machine has booted since. No fsync: what a
power cut could lose is of the boot before, and on the controller's loop each took 5 to 30 ms.
"""

import json
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from devstack.core.events import Artifact, Exit, Restored
from devstack.core.state import State
from devstack.core.tell import Line, Tone

SCHEMA = 1
KEPT_LINES = 1000


class Snapshot:
    """The file of one stack's controller."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self.sources: dict[str, str] = {}
        """Service → digest of the source that was wanted, as `read` found it of the keeper's run."""
        self._written: object = None
        self._lines: deque[tuple[float, str | None, str, str]] = deque(maxlen=KEPT_LINES)
        self._has_new_lines = False

    # ── history ───────────────────────────────────────────────────────────────────────────────

    def add(self, line: Line, wall: float) -> None:
        """Keep a line of what happened."""
        self._lines.append((wall, line.service, line.text, line.tone.value))
        self._has_new_lines = True

    def history(self) -> list[tuple[float, Line]]:
        """The newest lines, oldest first."""
        return [
            (wall, Line(service, text, Tone(tone))) for wall, service, text, tone in self._lines
        ]

    # ── writing ───────────────────────────────────────────────────────────────────────────────

    def write(self, state: State, keeper_run: str) -> None:
        """Write when something that is kept has changed since the last time."""
        kept = (keeper_run, {name: _kept(state, name) for name in state.services})
        if kept == self._written and not self._has_new_lines:
            return
        self._written = kept
        self._has_new_lines = False
        content = {
            "schema": SCHEMA,
            "boot_id": self._boot_id,
            "run": keeper_run,
            "services": {name: _service_to_json(state, name) for name in state.services},
        }
        _write_whole(self._path, json.dumps(content | {"lines": list(self._lines)}))

    def forget(self) -> None:
        """The stack is down: wishes end with it."""
        self._path.unlink(missing_ok=True)

    # ── reading ───────────────────────────────────────────────────────────────────────────────

    def read(self, keeper_run: str) -> tuple[Restored, ...]:
        """What an earlier controller of this keeper's run knew; of another run the wishes alone.

        Wishes live until `down`, which forgets the file, so of a run that ended otherwise they still hold.
        Revisions, counters and exits are about replicas that are gone with it. Nothing of other boots.

        A file that cannot be read as one is set aside as `.bad-<time>` and what runs is adopted
        without it.
        """
        try:
            raw = json.loads(self._path.read_text())
            if raw["schema"] != SCHEMA:
                raise ValueError(f"schema {raw['schema']} is not {SCHEMA}")
            if raw["boot_id"] != self._boot_id:
                return ()
            if raw["run"] == keeper_run:
                restored = tuple(_restored(name, known) for name, known in raw["services"].items())
                sources = {name: str(known["source"]) for name, known in raw["services"].items()}
            else:
                restored = tuple(_wishes(raw["services"]))
                sources = {}
            lines = [(wall, s, text, Tone(tone).value) for wall, s, text, tone in raw["lines"]]
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError, AttributeError):
            self._path.rename(self._path.with_suffix(f".bad-{int(time.time())}"))
            return ()
        self.sources = sources
        self._lines.extend(lines)
        return restored


def _kept(state: State, name: str) -> tuple[object, ...]:
    """The values that are written of a service; compared with each other far cheaper than as JSON."""
    known = state.of(name)
    return (
        known.source,
        (known.desired, known.good, known.artifact, known.good_artifact, known.restart_count),
        state.override(name),
        [(i, s.started, s.failures, s.last_exit) for i, s in known.slots.items()],
    )


def _service_to_json(state: State, name: str) -> dict[str, Any]:
    known = state.of(name)
    override = state.override(name)
    return {
        "source": known.source,
        "desired": known.desired,
        "good": known.good,
        "artifact": asdict(known.artifact) if known.artifact is not None else None,
        "good_artifact": asdict(known.good_artifact) if known.good_artifact is not None else None,
        "restart_count": known.restart_count,
        "override": [override.replicas, override.stopped],
        "slots": [
            [index, slot.started, slot.failures, asdict(slot.last_exit) if slot.last_exit else None]
            for index, slot in sorted(known.slots.items())
        ],
    }


def _wishes(services: dict[str, Any]) -> Iterator[Restored]:
    for name, raw in services.items():
        replicas, stopped = raw["override"]
        if stopped or replicas is not None:
            yield Restored(service=name, override_replicas=replicas, override_stopped=stopped)


def _restored(name: str, raw: dict[str, Any]) -> Restored:
    return Restored(
        service=name,
        desired=raw["desired"],
        good=raw["good"],
        artifact=_artifact(raw["artifact"]),
        good_artifact=_artifact(raw["good_artifact"]),
        restart_count=raw["restart_count"],
        override_replicas=raw["override"][0],
        override_stopped=raw["override"][1],
        slots=tuple(
            (index, started, failures, _exit(last))
            for index, started, failures, last in raw["slots"]
        ),
    )


def _artifact(raw: dict[str, Any] | None) -> Artifact | None:
    if raw is None:
        return None
    return Artifact(**raw | {key: tuple(raw[key]) for key in ("notes", "warnings")})


def _exit(raw: dict[str, Any] | None) -> Exit | None:
    return Exit(**raw | {"tail": tuple(raw["tail"])}) if raw is not None else None


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
