"""A keeper with a bug planted in it: takes the place of `keeper/main.py`, with the same arguments.

Asking for the descendants of a process makes it fail; with BREAK_LAST_KILL in its environment so does
the kill at its end, which its warden then has to make.
"""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

from devstack.keeper import main
from devstack.keeper.children import Children
from devstack.keeper.keeper import Keeper


def fail(*_: object) -> None:
    raise ZeroDivisionError("planted")


setattr(Children, "descendants", fail)  # noqa: B010 - a bug has no type
if "BREAK_LAST_KILL" in os.environ:
    setattr(Keeper, "_kill", fail)  # noqa: B010 - as above

if __name__ == "__main__":
    sys.exit(main.main(sys.argv[1:]))
