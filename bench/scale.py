"""`scale orders=20` from 1 to all serving, against 19 such processes started by hand in parallel."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.by_hand import LOOK_SECONDS, answers_http, record
from bench.checkout import shop, timed
from bench.table import Row, median, spread

COUNT = 20


def measure(rounds: int) -> list[Row]:
    """A B A B on one stack that stays up; the processes by hand use its database and broker."""
    ours: list[float] = []
    theirs: list[float] = []
    with shop() as stack:
        stack.up()
        orders = next(r for r in record(stack, stack.folder) if r.service == "orders")
        for _ in range(rounds):
            ours.append(timed(stack, "scale", f"orders={COUNT}"))
            ready = stack.service("orders")["ready"]
            assert ready == COUNT, ready
            stack.devstack("scale", "orders=1")
            _wait_for_one(stack.pids)
            theirs.append(_by_hand(orders.argv, dict(orders.env), orders.cwd))
    base = median(theirs)
    return [
        Row(
            f"scale orders={COUNT}",
            median(ours),
            1.5 * base + 0.3,
            f"{COUNT - 1} by hand {spread(theirs)}",
            base,
            note=spread(ours),
        )
    ]


def _wait_for_one(pids: Callable[[str], list[int]]) -> None:
    deadline = time.monotonic() + 60
    while len(pids("orders")) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)


def _by_hand(argv: tuple[str, ...], env: dict[str, str], cwd: str) -> float:
    ports = _free_ports(COUNT - 1)
    processes: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> None:
        with Path(os.devnull).open("wb") as log:
            processes.append(
                subprocess.Popen(
                    argv,
                    env=env | {"PORT": str(port)},
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        while not answers_http("127.0.0.1", port, "/healthz"):
            time.sleep(LOOK_SECONDS)

    threads = [threading.Thread(target=start, args=(port,)) for port in ports]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    took = time.monotonic() - began
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(30)
    return took


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for one in sockets:
        one.close()
    return ports
