"""Which folders a toolchain needs in front of PATH: none when PATH finds that very program."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


def folders_in_front(program: Path, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """A prefix that is not needed would move everything beside the program in front, too."""
    found = shutil.which(program.name, path=environment.get("PATH", os.defpath))
    if found is not None and os.path.realpath(found) == os.path.realpath(program):
        return ()
    return (program.parent,)
