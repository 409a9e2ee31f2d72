"""Numbers and small rules that users meet as behaviour: back-off, crash-loop, flapping, surge."""

import math

MIN_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 30.0
JITTER = 0.25
RESET_AFTER_READY_SECONDS = 10.0
CRASH_LOOP_FAILURES = 5
FLAPPING_CHANGES = 4
FLAPPING_WINDOW_SECONDS = 60.0
ECHO_SECONDS = 20.0
"""So long after a service came or went, what needs it changes because of that: a stop, three probes."""
ROUTES_RETRY_SECONDS = 0.2
ROUTES_ATTEMPTS = 10
"""How often in a row a table is set in vain before what it should be without goes nevertheless."""
LOAD_RETRY_SECONDS = 5.0
WARNINGS_KEPT = 100
"""Of one service; what was told and is no longer known is told again."""
WARNINGS_SHOWN = 5
MOST_ADDRESSES = 253
"""Services of one stack that can have an address of their own: 2 to 254 of a /24 network."""
MOST_REPLICAS = 200
"""Of one service: each slot has four ports of the checkout for good."""
PORTS_PER_SLOT = 4
"""One current replica and up to three draining."""


def restart_delay(failures: int, jitter: float) -> float:
    """Seconds to wait before filling a slot again: doubles per failure, capped, ±25 % at most.

    `failures` counts consecutive ones and is at least 1; `jitter` is in -1…1 and was drawn when the
    exit was recorded, so that replaying a journal gives the same times.
    """
    base = min(MAX_DELAY_SECONDS, MIN_DELAY_SECONDS * 2.0 ** min(failures - 1, 16))
    return base * (1.0 + JITTER * max(-1.0, min(1.0, jitter)))


def surge(desired: int, proven: bool) -> int:
    """How many slots may be in replacement at once: one until the revision was ready once."""
    return max(1, math.ceil(desired / 4)) if proven else 1


def rendered_slots(desired: int) -> int:
    """How many slots get upstream blocks ahead, so that scaling does not reload."""
    return 2 * desired + 8
