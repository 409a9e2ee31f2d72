"""`python -m devstack.controller --file PATH [--adopt]`: one stack's controller process.

Takes the stack's lock, serves the control socket, and looks after the stack until it is down. With
`--adopt` (the keeper starts it so when an earlier controller died) it reads from its standard input
what that one had applied, and takes over what runs without being asked.

Its modules take longer to load than a keeper to start. So lock and keeper come first, and everything
else (`engine.life`) is imported while the keeper starts.
"""

import fcntl
import gc
import logging
import os
import resource
import sys
from pathlib import Path

from devstack.api.wire import LOCK_HELD
from devstack.keeper.marks import runs_in
from devstack.keeper.places import PlaceRefused, Places, make, stack_id_of
from devstack.keeper.starting import Starting, spawn_keeper

log = logging.getLogger("devstack.controller")


def main(arguments: list[str]) -> int:
    """Run a controller to the end of its stack; the exit code is for whoever started it."""
    gc.disable()  # half a thousand modules leave it nothing to find: 70 of 350 ms before the first service
    logging.basicConfig(
        level=os.environ.get("DEVSTACK_LOG", "WARNING").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    file = Path(arguments[arguments.index("--file") + 1]).resolve()
    os.chdir("/")  # where it was started may be removed
    adopt = "--adopt" in arguments
    try:
        places = make(stack_id_of(str(file)))
    except PlaceRefused as refused:
        log.error("%s; hint: %s", refused, refused.hint)
        return 1
    lock = _take_lock(places)
    if lock is None:
        return LOCK_HELD
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    starting = None if adopt else _start_keeper(places, soft)
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # there are none; to look takes 15 ms
    from devstack.engine.life import live

    gc.freeze()
    gc.enable()
    try:
        return live(places, file, adopt=adopt, open_files=soft, starting=starting)
    finally:
        os.close(lock)


def _take_lock(places: Places) -> int | None:
    """Hold the stack's lock for life; None when another controller does."""
    descriptor = os.open(places.controller_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.truncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _start_keeper(places: Places, open_files: int) -> Starting | None:
    """A keeper on its way; none where a run is on record, whose keeper may live or left something."""
    if sys.platform != "linux" or runs_in(places.folder):
        return None
    try:
        return spawn_keeper(places, open_files=open_files)
    except OSError:
        return None  # tried again, and told, when it is needed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
