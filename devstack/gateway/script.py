"""Which script NGINX runs: the package's `routes.js`, put into the gateway's folder under its hash.

A copy, so that an upgraded package does not change what a running stack reloads; named by content, so
that a newer devstack that takes the stack over loads its own.
"""

import hashlib
from pathlib import Path

from devstack.gateway.files import put_file

_SOURCE = Path(__file__).with_name("routes.js")
_CONTENT = _SOURCE.read_bytes()

SCRIPT_NAME = f"routes-{hashlib.sha256(_CONTENT).hexdigest()[:8]}.js"


def place_script(folder: Path) -> None:
    """Put the script into `folder`, where it is not there yet."""
    put_file(folder / SCRIPT_NAME, _CONTENT)
