"""Entry of warden and keeper: `python3 -I -S -X utf8 main.py --folder … --run …`.

Nothing of the project's environment is wanted here, not even its site-packages.
"""

from __future__ import annotations

import os
import sys

USAGE = "usage: main.py --folder FOLDER --run ID --version V [--controller PID:START] [--ready FD] [--open-files N]\n"


def main(arguments: list[str]) -> int:
    # appended: the standard library comes first, whatever lies beside the package
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from devstack.keeper import warden
    from devstack.keeper.keeper import Options

    given = dict(zip(arguments[::2], arguments[1::2], strict=False))
    try:
        pid, _, start = given.get("--controller", "0:0").partition(":")
        open_files = given.get("--open-files")
        options = Options(
            given["--folder"],
            given["--run"],
            controller=(int(pid), int(start)),
            ready=int(given.get("--ready", "-1")),
            open_files=None if open_files is None else int(open_files),
            version=given["--version"],
        )
    except (KeyError, ValueError):
        sys.stderr.write(USAGE)
        return 2
    os.chdir("/")
    _close_what_was_inherited(options.ready)
    return warden.run(options)


def _close_what_was_inherited(kept: int) -> None:
    """Whoever called `up` may wait for the end of a pipe; nothing of the run must hold it open."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor != kept:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the one that listed the folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
