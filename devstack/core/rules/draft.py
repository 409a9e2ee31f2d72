"""A plan in the making: what rules write into, at most one op for each replica and step (law 3)."""

from collections.abc import Mapping

from devstack.core.ops import Hold, Op, Plan
from devstack.core.rules.leaving import by_slot, leaving
from devstack.core.state import Replica, State


class Draft:
    """A plan in the making, with what several rules look up."""

    def __init__(self, state: State, now: float) -> None:
        self.now = now
        self.ops: list[Op] = []
        self.holds: list[Hold] = []
        self.leaving: Mapping[str, str] = leaving(state)
        """Replicas that should make way, and why."""
        self._by_slot = by_slot(state)
        self._wakes: list[float] = []
        self._taken: set[str] = set()

    def on_slot(self, name: str, slot: int) -> tuple[Replica, ...]:
        """Replicas on a slot, those that are ending included."""
        return self._by_slot.get((name, slot), ())

    def op(self, key: str, op: Op) -> None:
        """Plan an op unless an earlier rule has one for the same replica or step."""
        if key not in self._taken:
            self._taken.add(key)
            self.ops.append(op)

    def hold(self, service: str, slot: int | None, reason: str, until: float | None = None) -> None:
        self.holds.append(Hold(service, slot, reason, until))
        if until is not None:
            self.wake(until)

    def wake(self, at: float) -> None:
        self._wakes.append(at)

    def plan(self) -> Plan:
        later = [at for at in self._wakes if at > self.now]
        return Plan(tuple(self.ops), tuple(self.holds), min(later, default=None))
