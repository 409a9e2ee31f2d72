"""`down` of the second stack (that of the sample is measured with `warm`)."""

from bench.by_hand import script
from bench.checkout import strangers, timed
from bench.table import Row, median, spread


def measure(rounds: int) -> list[Row]:
    """A B A B, as `warm`."""
    ups: list[float] = []
    downs: list[float] = []
    by_hand_ups: list[float] = []
    by_hand_downs: list[float] = []
    with strangers() as stack:
        stack.up()
        with script(stack) as by_hand:
            stack.devstack("down")
            for _ in range(rounds):
                ups.append(timed(stack, "up", "-d", "--wait"))
                downs.append(timed(stack, "down"))
                by_hand_ups.append(by_hand.up())
                by_hand_downs.append(by_hand.down())
    base = median(by_hand_ups)
    return [
        Row(
            "warm up -d --wait, second stack",
            median(ups),
            1.15 * base + 0.4,
            f"by hand {spread(by_hand_ups)}",
            base,
            note=spread(ups),
        ),
        Row(
            "down, second stack",
            median(downs),
            2.0,
            f"by hand {spread(by_hand_downs)}",
            median(by_hand_downs),
            note=spread(downs),
        ),
    ]
