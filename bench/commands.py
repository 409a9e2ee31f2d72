"""What a command costs beside a bare start of Python: `status` and `--help`."""

import sys
from pathlib import Path

from bench.checkout import strangers, timed_process
from bench.table import Row, median
from tests.support.stacks import REPOSITORY

SYSTEM = Path("/usr/bin/python3")
WORDS = {"status": 0.040, "--help": 0.060}


def measure(rounds: int) -> list[Row]:
    """Interleaved: bare, status, --help; under this Python and under the system's."""
    rows: list[Row] = []
    main = str(REPOSITORY / "devstack" / "__main__.py")
    pythons = [sys.executable, *([str(SYSTEM)] if SYSTEM.exists() else [])]
    with strangers() as stack:
        stack.up()
        for python in pythons:
            bare: list[float] = []
            took: dict[str, list[float]] = {word: [] for word in WORDS}
            for _ in range(rounds * 4):
                bare.append(timed_process([python, "-I", "-c", "pass"]))
                for word in WORDS:
                    took[word].append(timed_process([python, "-I", main, word], stack))
            where = "this Python" if python == sys.executable else "system's python3"
            rows += [
                Row(
                    f"{word}, {where}",
                    1000 * median(took[word]),
                    1000 * limit,
                    f"python3 -I -c pass; best {1000 * min(took[word]):.0f} ms",
                    1000 * median(bare),
                    "ms",
                )
                for word, limit in WORDS.items()
            ]
    return rows
