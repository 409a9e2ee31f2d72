"""Whether programs of the per-user cache may be run: nobody else can have put them there.

Asked before every command that runs on the private environment, so it imports little.
"""

import os
import stat
from pathlib import Path


def is_ours(place: Path) -> bool:
    """Whether a place of the cache, `CACHE/envs/NAME` or `CACHE/tools/NAME`, is ours or root's alone.

    The folders above it too: who can write one of them can put another in its place.
    """
    try:
        return all(_is_private(path) for path in (place.parent.parent, place.parent, place))
    except OSError:
        return False


def _is_private(path: Path) -> bool:
    """The folder and, where it is a link to one, the link."""
    found = path.stat()
    owners = {found.st_uid, path.lstat().st_uid}
    return owners <= {0, os.geteuid()} and not stat.S_IMODE(found.st_mode) & 0o022
