"""How a prepared folder comes to be: made under a temporary name, renamed when whole.

Two prepares of the same thing may race; the first to finish wins and the other uses what is there.
"""

import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

TEMPORARY_PREFIX = ".making-"


@contextmanager
def temporary_folder(parent: Path, purpose: str) -> Iterator[Path]:
    """A new empty folder in `parent`, gone when the block ends unless it was published."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{TEMPORARY_PREFIX}{purpose}-{os.getpid()}-{uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        discard(folder)


def publish(made: Path, final: Path) -> bool:
    """Give a whole folder its name; False when another prepare was first (theirs is kept)."""
    try:
        made.rename(final)
    except OSError:
        if final.is_dir():
            return False
        raise
    return True


def set_aside(folder: Path) -> None:
    """Remove a folder that turned out unusable, without a moment in which half of it is there."""
    if not folder.exists():
        return
    aside = folder.parent / f"{TEMPORARY_PREFIX}unusable-{uuid4().hex[:8]}"
    folder.rename(aside)
    discard(aside)


def discard(folder: Path) -> None:
    """Remove a folder with everything in it; read-only entries (Go's module cache) too."""
    shutil.rmtree(folder, onerror=_make_writable_and_retry)


def set_unused_aside(parent: Path, keep: Collection[Path]) -> tuple[Path, ...]:
    """Take the names from the artifacts in `parent` that are not in `keep`; what to discard at leisure.

    Only to be called while nothing is being prepared below `parent`: what prepares made under
    temporary names and left behind is among it.
    """
    if not parent.is_dir():
        return ()
    kept = {
        parent / path.relative_to(parent).parts[0]
        for path in keep
        if path != parent and path.is_relative_to(parent)
    }
    aside: list[Path] = []
    for entry in sorted(entry for entry in parent.iterdir() if entry.is_dir()):
        if entry.name.startswith(TEMPORARY_PREFIX):
            aside.append(entry)
        elif entry not in kept:
            aside.append(entry.rename(parent / f"{TEMPORARY_PREFIX}unused-{uuid4().hex[:8]}"))
    return tuple(aside)


def _make_writable_and_retry(
    remove: Callable[[str], object], path: str, failure: tuple[object, BaseException, object]
) -> None:
    if isinstance(failure[1], FileNotFoundError):
        return
    for name in (Path(path).parent, Path(path)):
        if not name.is_symlink() and name.exists():
            name.chmod(name.stat().st_mode | stat.S_IRWXU)
    remove(path)
