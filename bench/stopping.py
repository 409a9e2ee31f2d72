"""`down` of the second stack (that of the sample is measured with `warm`)."""

from bench.checkout import strangers, timed
from bench.table import Row, median, spread


def measure(rounds: int) -> list[Row]:
    """Up and down in turns; the limit is an absolute one."""
    ups: list[float] = []
    downs: list[float] = []
    with strangers() as stack:
        stack.up()
        stack.devstack("down")
        for _ in range(rounds):
            ups.append(timed(stack, "up", "-d", "--wait"))
            downs.append(timed(stack, "down"))
    return [
        Row("warm up -d --wait, second stack", median(ups), note=spread(ups)),
        Row("down, second stack", median(downs), 2.0, note=spread(downs)),
    ]
