"""What the other running stacks of this user have chosen for themselves.

Two checkouts may have chosen the same block, each while the other was down. A test by bind shows what is
listened on now, not the port of a database that is only about to start.
"""

from contextlib import suppress
from pathlib import Path

from devstack.api.locate import Places, read_entry, stacks
from devstack.engine.folders import Folders
from devstack.engine.identity import Identity, read


def identities_of_others(own: Places) -> tuple[Identity, ...]:
    """The identity of each, as it was kept last."""
    found: list[Identity] = []
    for places in stacks():
        file = read_entry(places).get("file")
        if places == own or not isinstance(file, str):
            continue
        with suppress(OSError):  # gone, with its folder
            identity = read(Folders.of(Path(file)).identity)
            if identity is not None:
                found.append(identity)
    return tuple(found)
