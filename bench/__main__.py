"""`python3 -m bench [NAME…]`: how fast devstack is, as one table of ratios.

    python3 -m bench                 every measurement but `first`, which empties caches and takes a minute
    python3 -m bench warm scale      some of them
    python3 -m bench all             every one
    python3 -m bench --rounds 5 warm more rounds, where one round says little

On a machine that does other things the absolute numbers are noise: each is measured in turns with what
it is compared to (A B A B), and medians are shown. The load is told before and after.
"""

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("warm", "scale", "commands", "rules", "probes", "logs", "idle", "first")
USUAL = NAMES[:-1]


def main(arguments: list[str]) -> int:
    """Measure what was asked for; 0 when nothing missed its limit."""
    rounds, names = _parse(arguments)
    if names is None:
        sys.stderr.write(f"usage: python3 -m bench [--rounds N] [all|{'|'.join(NAMES)}]…\n")
        return 2
    os.chdir(ROOT)
    if not _is_in_environment():
        _enter_environment(arguments)
    from importlib import import_module

    from bench.table import Row, as_markdown

    print(f"{os.cpu_count()} cores, load {_load()}, Python {sys.version.split()[0]}")
    rows: list[Row] = []
    for name in names:
        began = time.monotonic()
        module = import_module(f"bench.{name}")
        found = module.measure(rounds)
        rows += found
        sys.stderr.write(f"{name}: {time.monotonic() - began:.0f} s, load {_load()}\n")
    print(as_markdown(rows))
    print(f"load {_load()}")
    return 1 if any(row.verdict == "MISSED" for row in rows) else 0


def _parse(arguments: list[str]) -> tuple[int, list[str] | None]:
    rounds, names = 5, list[str]()
    words = iter(arguments)
    for word in words:
        if word == "--rounds":
            number = next(words, "")
            if not number.isdigit() or number == "0":
                return 0, None
            rounds = int(number)
        elif word == "all":
            names += NAMES
        elif word in NAMES:
            names.append(word)
        else:
            return 0, None
    return rounds, names or list(USUAL)


def _is_in_environment() -> bool:
    from devstack.bootstrap import interpreter

    return interpreter.has_packages("dev")


def _enter_environment(arguments: list[str]) -> None:
    """Run again where devstack's packages are, as the tests do."""
    from devstack import bootstrap
    from devstack.bootstrap.interpreter import BootstrapFailed

    try:
        bootstrap.run_in_environment("dev", ["-m", "bench", *arguments])
    except BootstrapFailed as failure:
        sys.exit(f"{failure}\nhint: {failure.hint}")


def _load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
