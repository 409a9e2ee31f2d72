"""What survives the controller: wishes, revisions, how slots fared, how far replicas were.

Not what runs: that is known from the keeper alone. Times are CLOCK_MONOTONIC, one clock for all that
runs in a boot. Written atomically (a temporary name in the same folder, then renamed) whenever it
changed, and before ops run, so that what was set in motion is in it; dropped when the machine has
booted since. No fsync: what a power cut could lose is of the boot before, and on the controller's loop
each took 5 to 30 ms.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from devstack.core.events import Restored, Standing
from devstack.core.plain import from_plain, to_plain
from devstack.core.state import Phase, Replica, State

SCHEMA = 5


_Kept = tuple[str, Restored]
"""Digest of a service's wanted source, and what the next controller hears of the service."""


class Snapshot:
    """The file of one stack's controller."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self.sources: dict[str, str] = {}
        """Service → digest of the source that was wanted, as `read` found it of the keeper's run."""
        self._written: tuple[str, list[_Kept]] | None = None
        self._texts: dict[str, tuple[_Kept, str]] = {}
        """Service → what is kept of it, and the same as JSON: of most services nothing has changed."""

    def write(self, state: State, keeper_run: str) -> None:
        """Write when something that is kept has changed since the last time."""
        services = [
            (known.source, remembered(state, name)) for name, known in state.services.items()
        ]
        if (keeper_run, services) == self._written:
            return
        head = json.dumps({"schema": SCHEMA, "boot_id": self._boot_id, "run": keeper_run})
        texts = ", ".join(f'"{kept[1].service}": {self._text_of(kept)}' for kept in services)
        _write_whole(self._path, f'{head[:-1]}, "services": {{{texts}}}}}')
        self._written = (keeper_run, services)

    def _text_of(self, kept: _Kept) -> str:
        source, known = kept
        before, text = self._texts.get(known.service, (None, ""))
        if before != kept:
            text = json.dumps({"source": source, "known": to_plain(known)})
            self._texts[known.service] = (kept, text)
        return text

    def forget(self) -> None:
        """The stack is down: wishes end with it."""
        self._path.unlink(missing_ok=True)
        self._written = None

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
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError, AttributeError):
            self._path.rename(self._path.with_suffix(f".bad-{int(time.time())}"))
            return ()
        self.sources = sources
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
