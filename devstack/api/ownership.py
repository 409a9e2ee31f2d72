"""What helps where devstack may not write into the folder that it keeps in a checkout."""
# pathlib is kept out: commands start without it
# ruff: noqa: PTH116

from __future__ import annotations

import errno
import os

from devstack.api.checkout import checkout_folder

_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_hint(error: OSError, stack_file: str) -> str:
    """Whose the folder is, or that it cannot be written to; empty for an error of another kind."""
    if error.errno not in _REFUSED:
        return ""
    folder = checkout_folder(stack_file)
    try:
        owner = os.stat(folder).st_uid
    except OSError:  # it could not even be made
        owner = os.geteuid()
    if owner == os.geteuid():
        return f"devstack keeps data, logs and state in {folder}: that folder cannot be written to"
    return (
        f"{folder} belongs to {_name_of(owner)}: run devstack as that user, or make it yours with "
        f"`sudo chown -R {_name_of(os.geteuid())} {folder}`"
    )


def _name_of(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
