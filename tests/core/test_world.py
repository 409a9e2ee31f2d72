"""Any history an engine can have keeps the five laws and each rule's safety property, and converges.

The properties themselves are in `tests/support/world.py`, asked before every op and after every event.
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.world import Action, World

USUAL = (
    "prepare",
    "spawn",
    "confirm",
    "ready",
    "drain",
    "reap",
    "routes",
    "load",
    "cluster",
    "time",
)
WISHES = ("apply", "scale", "stop", "start", "restart", "down", "edit", "reset")
FAULTS = ("exit", "unready", "die", "keeper", "successor", "ghost", "startup", "deaf")

# what usually happens is drawn more often, so that histories get somewhere
_KINDS = st.sampled_from(USUAL * 3 + WISHES + FAULTS)
_ACTIONS = st.lists(
    st.tuples(_KINDS, st.integers(0, 15), st.integers(0, 15)), min_size=40, max_size=160
)

_GIVEN_UP_WHILE_UP_IS_RUN_AGAIN: list[Action] = [
    ("stop", 5, 2),
    ("apply", 6, 3),
    ("prepare", 9, 12),
    ("apply", 13, 11),
    ("prepare", 8, 13),
    ("time", 15, 6),
]

_ENDED_WELL_BEFORE_ITS_SOURCE_CHANGED: list[Action] = [
    ("keeper", 0, 0),
    ("keeper", 0, 0),
    ("spawn", 7, 0),
    ("exit", 0, 8),
    ("time", 15, 0),
    ("spawn", 5, 0),
    ("apply", 13, 12),
    ("prepare", 0, 11),
    ("ready", 0, 0),
    ("spawn", 3, 2),
    ("time", 7, 0),
    ("spawn", 11, 0),
    ("exit", 15, 0),
    ("scale", 0, 12),
    ("edit", 0, 0),
    ("spawn", 0, 0),
]


def live(actions: list[Action], *, is_up: bool) -> World:
    """A history, from an empty machine or from a stack that is up."""
    world = World()
    world.act(("apply", 0, 0))
    if is_up:
        for _ in range(4):
            world.act(("well", 7, 0))
    for action in actions:
        world.act(action)
    return world


@pytest.mark.timeout(900)  # to shrink a history that fails takes minutes
@settings(max_examples=120)
@given(_ACTIONS, st.booleans())
@example(_GIVEN_UP_WHILE_UP_IS_RUN_AGAIN, True)
@example(_ENDED_WELL_BEFORE_ITS_SOURCE_CHANGED, True)
def test_every_history_is_safe_converges_and_replays(actions: list[Action], is_up: bool) -> None:
    world = live(actions, is_up=is_up)
    world.be_kind()

    world.check_converged()
    world.check_replay()
