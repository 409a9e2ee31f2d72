"""What only the engine can add to the end of a replica: its last words, and whose fault it was.

A replica whose port was taken by somebody else between the choice and its bind has not failed: the
slot is filled again at once, on its next port, three times at most.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from devstack.core.events import Exit
from devstack.core.model import Service
from devstack.core.state import Replica, State
from devstack.engine.tails import last_lines
from devstack.gateway.listeners import Listener, holder_of
from devstack.runtimes.base import ReplicaEnd

MOST_PICKS = 3


@dataclass(slots=True)
class Endings:
    """See the module's docstring."""

    logs: Path
    run_id: Callable[[], str]
    state: Callable[[], State]
    secrets: Callable[[Service], Collection[str]]
    """What a service must not have told of its last words, see `covers.secrets_among`."""
    _stolen: dict[tuple[str, int | None], int] = field(default_factory=dict)
    """How often in a row a slot's port was taken by somebody else."""

    def complete(self, end: ReplicaEnd) -> ReplicaEnd:
        """The end with the last lines of its log; marked a loss when its port was stolen."""
        if end.exit.is_success or end.is_loss:
            return end
        replica = self.state().replicas.get(end.replica)
        if replica is not None and replica.stop_cause and not replica.stop_is_failure:
            return end  # it was asked to: its last words are of no use to anybody
        name = end.replica.rpartition("#")[0].rpartition(".")[0]
        service = self.state().definition(name)
        secrets = self.secrets(service) if service is not None else ()
        tail = last_lines(self.logs / name / self.run_id(), end.replica, secrets)
        end = replace(end, exit=replace(end.exit, tail=tail))
        if replica is None:
            return end
        slot = (replica.service, replica.slot)
        thief = _thief(replica)
        if thief is None:
            self._stolen.pop(slot, None)
            return end
        picks = self._stolen[slot] = self._stolen.get(slot, 0) + 1
        message = f"found its port in use: {thief}"
        exit_ = Exit(end.exit.code, end.exit.signal, message, tail, end.exit.wall)
        return replace(end, exit=exit_, is_loss=picks <= MOST_PICKS)


def _thief(replica: Replica) -> Listener | None:
    """Who listens where a replica that has never been ready should have; None when nobody does."""
    if replica.was_ready or replica.stop_cause:
        return None
    for _, literal in replica.addresses:
        host, _, port = literal.rpartition(":")
        if not port.isdigit():
            continue
        thief = holder_of(host, int(port))
        if thief is not None:
            return thief
    return None
