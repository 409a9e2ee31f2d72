"""What survives the controller: wishes, revisions, how slots fared, how far replicas were, lines.

Not what runs: that is known from the keeper alone. Times are CLOCK_MONOTONIC, one clock for all that
runs in a boot. Written atomically (a temporary name in the same folder, then renamed) whenever it
changed, and before ops run, so that what was set in motion is in it; dropped when the machine has
booted since. No fsync: what a power cut could lose is of the boot before, and on the controller's loop
each took 5 to 30 ms.
"""

import json
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from devstack.core.events import Restored, Standing
from devstack.core.plain import from_plain, to_plain
from devstack.core.state import Phase, Replica, State
from devstack.core.tell import Line, Tone

SCHEMA = 2
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
        services = [
            (known.source, remembered(state, name)) for name, known in state.services.items()
        ]
        kept = (keeper_run, services)
        if kept == self._written and not self._has_new_lines:
            return
        content = {
            "schema": SCHEMA,
            "boot_id": self._boot_id,
            "run": keeper_run,
            "services": {
                known.service: {"source": source, "known": to_plain(known)}
                for source, known in services
            },
        }
        _write_whole(self._path, json.dumps(content | {"lines": list(self._lines)}))
        self._written = kept
        self._has_new_lines = False

    def forget(self) -> None:
        """The stack is down: wishes end with it."""
        self._path.unlink(missing_ok=True)
        self._written = None

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
            found = tuple(
                from_plain(known["known"], Restored) for known in raw["services"].values()
            )
            if raw["run"] == keeper_run:
                restored = found
                sources = {name: str(known["source"]) for name, known in raw["services"].items()}
            else:
                restored = tuple(_wishes(found))
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


def remembered(state: State, name: str) -> Restored:
    """What is kept of a service, as the next controller hears it."""
    known, override = state.of(name), state.override(name)
    return Restored(
        service=name,
        desired=known.desired,
        good=known.good,
        artifact=known.artifact,
        good_artifact=known.good_artifact,
        restart_count=known.restart_count,
        override_replicas=override.replicas,
        override_stopped=override.stopped,
        prepare_error=known.prepare_error,
        rollout_error=known.rollout_error,
        warnings=known.warnings,
        ready_changes=known.ready_changes,
        waiting_since=known.waiting_since,
        slots=tuple(sorted(known.slots.items())),
        replicas=tuple((r.id, _standing(r)) for r in state.replicas_of(name) if not r.observed),
        workload=known.workload,
    )


def _standing(replica: Replica) -> Standing:
    return Standing(
        requested_at=replica.requested_at,
        startup_passed=replica.phase is Phase.RUNNING or replica.was_ready,
        ready=replica.ready,
        was_ready=replica.was_ready,
        ready_at=replica.ready_at,
        draining=replica.draining,
        drained=replica.drained,
        stopping=replica.phase is Phase.STOPPING,
        stop_cause=replica.stop_cause,
        stop_is_failure=replica.stop_is_failure,
    )


def _wishes(services: Iterable[Restored]) -> Iterator[Restored]:
    for known in services:
        if known.override_stopped or known.override_replicas is not None:
            yield Restored(
                service=known.service,
                override_replicas=known.override_replicas,
                override_stopped=known.override_stopped,
            )


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
