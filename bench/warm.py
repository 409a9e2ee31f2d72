"""Warm `up -d --wait` of the sample against the same commands started by hand."""

from bench.by_hand import script
from bench.checkout import shop, timed
from bench.table import Row, median, spread


def measure(rounds: int) -> list[Row]:
    """A B A B: devstack up and down, by hand up and down, on the same prepared data."""
    ours: list[float] = []
    downs: list[float] = []
    theirs: list[float] = []
    their_downs: list[float] = []
    with shop() as stack:
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
            "warm up -d --wait, sample",
            median(ours),
            1.15 * base + 0.4,
            by,
            base,
            note=spread(ours),
        ),
        Row("warm up -d --wait, sample, absolute", median(ours), 3.5),
        Row(
            "down, sample",
            median(downs),
            3.5,
            f"by hand, all at once, {spread(their_downs)}",
            median(their_downs),
            note=spread(downs),
        ),
    ]
