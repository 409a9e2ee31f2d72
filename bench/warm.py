"""Warm `up -d --wait` of both stacks against the same commands started by hand."""

from contextlib import AbstractContextManager

from bench.by_hand import script
from bench.checkout import shop, strangers, timed
from bench.table import Row, median, spread
from tests.support.stacks import StackUnderTest


def measure(rounds: int) -> list[Row]:
    """A B A B: devstack up and down, by hand up and down, on the same prepared data."""
    rows = _measure(shop(), "sample", rounds, most_down=3.5)
    return rows + _measure(strangers(), "second stack", rounds, most_down=2.0)


def _measure(
    started: AbstractContextManager[StackUnderTest], name: str, rounds: int, most_down: float
) -> list[Row]:
    ours: list[float] = []
    downs: list[float] = []
    theirs: list[float] = []
    their_downs: list[float] = []
    with started as stack:
        stack.up()
        with script(stack) as by_hand:
            stack.devstack("down")
            for _ in range(rounds):
                ours.append(timed(stack, "up", "-d", "--wait"))
                downs.append(timed(stack, "down"))
                theirs.append(by_hand.up())
                their_downs.append(by_hand.down())
    base = median(theirs)
    by = f"by hand {spread(theirs)}"
    return [
        Row(
            f"warm up -d --wait, {name}",
            median(ours),
            1.15 * base + 0.4,
            by,
            base,
            note=spread(ours),
        ),
        Row(f"warm up -d --wait, {name}, absolute", median(ours), 3.5),
        Row(
            f"down, {name}",
            median(downs),
            most_down,
            f"by hand, all at once, {spread(their_downs)}",
            median(their_downs),
            note=spread(downs),
        ),
    ]
