"""The core decides and does nothing else: it loads no clock, no loop, no files, no third party."""

import json
import subprocess
import sys
import time
from pathlib import Path

import devstack.core
from devstack.core import events as e
from devstack.core.reconcile import reconcile
from devstack.core.reduce import reduce
from tests.support.history import History, needs, nginx, web, worker

FORBIDDEN = (
    "asyncio",
    "random",
    "socket",
    "subprocess",
    "threading",
    "pathlib",
    "pydantic",
    "yaml",
)
FORBIDDEN_BUILT_IN = ("time", "_socket", "_random", "select", "fcntl")

PROGRAM = """
import sys, json, importlib, pkgutil
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import devstack.core
for module in pkgutil.walk_packages(devstack.core.__path__, "devstack.core."):
    importlib.import_module(module.name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_importing_the_core_loads_nothing_that_has_effects() -> None:
    root = Path(devstack.core.__path__[0]).parents[1]
    # -I -S: what is loaded at start-up (os for site, time for zipimport) is not the core's doing
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, str(root)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    loaded = json.loads(answer.stdout)
    assert "devstack.core.reconcile" in loaded
    own = [name for name in loaded if name.startswith("devstack")]
    assert [
        name for name in own if not name.startswith("devstack.core") and name != "devstack"
    ] == []
    tops = {name.partition(".")[0] for name in loaded}
    # hashlib and inspect (of dataclasses) bring some of the machine with them, but none of these
    assert tops.isdisjoint(FORBIDDEN)


def test_no_module_of_the_core_imports_a_clock_or_chance() -> None:
    for path in Path(devstack.core.__path__[0]).rglob("*.py"):
        for line in path.read_text().splitlines():
            words = line.replace(",", " ").split()
            if words[:1] in (["import"], ["from"]):
                assert not set(words).intersection(FORBIDDEN + FORBIDDEN_BUILT_IN + ("os",)), line


def test_two_hundred_replicas_are_decided_on_without_anything_quadratic() -> None:
    """Not a benchmark: a bound far above what is measured (2 ms), far below what hurts."""
    core = History()
    core.up(
        nginx(),
        *(web(f"app-{n}", replicas=10, depends_on=needs("base")) for n in range(20)),
        worker("base"),
    )
    for name in ("gateway", "base", *(f"app-{n}" for n in range(20))):
        core.prepared(name)
    core.start("gateway.1#1")
    core.start("base.1#1")
    core.loaded()
    for replica in list(core.state.replicas):
        if replica.startswith("app-"):
            core.record(e.ReplicaSpawned(replica, 1, (("main", "127.0.0.1:20000"),)))
            core.record(e.ReadinessChanged(replica, True))
    core.settle()
    assert len(core.state.replicas) == 202

    def best(call: object, times: int = 5) -> float:
        found = []
        for _ in range(times):
            before = time.perf_counter()
            assert callable(call)
            call()
            found.append(time.perf_counter() - before)
        return min(found)

    event = e.ReadinessChanged("app-7.3#1", False, "no answer", at=core.now)
    assert best(lambda: reconcile(core.state, core.now)) < 0.05
    assert best(lambda: reduce(core.state, event)) < 0.01
