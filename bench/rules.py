"""What the pure core costs at 200 replicas: one event recorded, and reconciled until dry."""

import time

from bench.table import Row, median
from devstack.core import events as e
from devstack.core.reconcile import reconcile
from tests.support.history import History, web

REPLICAS = 200
SERVICES = 10
EVENTS = 100


def measure(rounds: int) -> list[Row]:
    """Ten services of twenty replicas each; readiness goes and comes back."""
    history = History()
    names = [f"s{n}" for n in range(SERVICES)]
    history.up(*(web(name, replicas=REPLICAS // SERVICES) for name in names))
    for name in names:
        history.prepared(name)
    for replica in list(history.state.replicas):
        history.start(replica)
    replicas = [replica.id for replica in history.state.replicas.values()]
    assert len(replicas) == REPLICAS, len(replicas)
    settled: list[float] = []
    asked: list[float] = []
    for number in range(EVENTS * rounds):
        replica = replicas[number % REPLICAS]
        for event in (
            e.ReadinessChanged(replica, False, "no answer"),
            e.ReadinessChanged(replica, True),
        ):
            began = time.perf_counter()
            history.record(event)
            history.settle()
            settled.append(time.perf_counter() - began)
            history.take()
        began = time.perf_counter()
        reconcile(history.state, history.now)
        asked.append(time.perf_counter() - began)
    return [
        Row(f"one event until dry, {REPLICAS} replicas", 1000 * median(settled), unit="ms"),
        Row(f"reconcile once, {REPLICAS} replicas", 1000 * median(asked), unit="ms"),
    ]
