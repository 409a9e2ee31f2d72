"""When a probe is asked next and what a row of results means. Pure: no clock, no sockets.

A condition changes after enough equal results in a row (kubelet's thresholds); a result that repeats
the known condition is nothing to tell.
"""

from dataclasses import dataclass
from enum import StrEnum

from devstack.core.model import Check

FIRST_SECOND_INTERVAL = 0.02
UNTIL_READY_INTERVAL = 0.2
QUICK_SECONDS = 1.0


class Role(StrEnum):
    """What a probe decides."""

    STARTUP = "startup"
    READY = "ready"
    ALIVE = "alive"


@dataclass(slots=True)
class Track:
    """One probe of one replica, over time."""

    role: Role
    check: Check
    due: float
    passing: bool | None = None
    """The known condition; None while nothing is known."""
    good: int = 0
    bad: int = 0
    reason: str = ""
    in_flight: bool = False

    def next_due(self, now: float, born: float, *, expensive: bool) -> float:
        """When to ask again: often while everybody waits for the first pass, then at leisure.

        `expensive` probes (a program, a query) are not asked fifty times a second.
        """
        if self.passing or self.role is Role.ALIVE:
            return now + self.check.interval_seconds
        quick = now - born < QUICK_SECONDS and not expensive
        return now + (FIRST_SECOND_INTERVAL if quick else UNTIL_READY_INTERVAL)

    def note(self, passed: bool, reason: str) -> bool:
        """Take a result; True when the condition changed, or the reason for not passing did."""
        if passed:
            self.good, self.bad = self.good + 1, 0
            if self.passing is True or self.good < self.check.successes:
                return False
            self.passing, self.reason = True, ""
            return True
        self.good, self.bad = 0, self.bad + 1
        if self.passing is True and self.bad < self.check.failures:
            return False
        changed = self.passing is not False or self.reason != reason
        self.passing, self.reason = False, reason
        return changed

    @property
    def has_failed_enough(self) -> bool:
        """For liveness: as many failures in a row as it may have."""
        return self.bad >= self.check.failures
