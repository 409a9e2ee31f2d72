"""Where this user's cache is, and who may fill a place in it: one lock file per place."""

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

_ANOTHER = "XDG_CACHE_HOME=/path"


class CacheUnusable(Exception):
    """The cache folder cannot be made or is not ours; `hint` is the next step."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.hint = f"name another cache: {_ANOTHER}"


def make_private_folder(path: Path) -> None:
    """Create a folder of the cache; programs run from it, so nobody else may own or write it."""
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as exc:
        raise CacheUnusable(f"cannot make the cache folder {path}: {exc.strerror}") from exc
    if found.st_uid != os.geteuid():
        raise CacheUnusable(f"cannot use the cache folder {path}: it belongs to another user")
    if stat.S_IMODE(found.st_mode) & 0o022:
        try:
            path.chmod(0o755)
        except OSError as exc:
            raise CacheUnusable(f"cannot use the cache folder {path}: {exc.strerror}") from exc


def told(trouble: OSError, cache: Path) -> tuple[str, str]:
    """What the system refused while the cache was used, in words, and what would help."""
    where = f"{trouble.filename}: " if trouble.filename else ""
    is_full = trouble.errno in (errno.ENOSPC, errno.EDQUOT)
    act = f"make room in {cache}" if is_full else f"see to it that {cache} can be written"
    return f"{where}{trouble.strerror or trouble}", f"{act}, or name another cache: {_ANOTHER}"


class PlaceLock:
    """The right to fill one place of the cache; held by one process, freed by its death.

    The file is never removed: whoever removes a lock file gives two holders the same right.
    """

    def __init__(self, place: Path) -> None:
        self._path = place.parent / f".{place.name}.lock"
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def scratch_folder(beside: Path) -> Path:
    """A new folder in which `beside` is made before it is renamed into place."""
    return Path(tempfile.mkdtemp(prefix=f".{beside.name}.", dir=beside.parent))


def move_into_place(made: Path, place: Path) -> None:
    """Rename a finished folder to its name, instead of a broken one that lies there.

    Only for the holder of the place's lock, who has seen that what lies there cannot be used.
    """
    made.chmod(0o755)  # others in a shared group may not write what is run
    _to_disk(made)
    remove_tree(place)
    made.rename(place)


def move_unless_there(made: Path, place: Path) -> None:
    """Rename a finished folder to its name; what somebody else put there first is kept.

    For places without a lock, where whatever has the name is whole. `made` then stays where it is.
    """
    try:
        made.rename(place)
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _to_disk(folder: Path) -> None:
    """Write out what was made: after a power cut a name may be there whose content is not."""
    import ctypes  # only now: a warm start makes nothing

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_filesystem = getattr(ctypes.CDLL(None), "syncfs", None)
        if sync_filesystem is None:
            os.sync()
        else:
            sync_filesystem(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a folder that may not be there; a name starting to vanish is never half there."""
    if path.name.startswith("."):  # a scratch folder, which nobody takes for whole
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.rename(path.with_name(f".{path.name}.gone.{os.getpid()}"))
    for doomed in (path, *path.parent.glob(f".{path.name}.gone.*")):
        shutil.rmtree(doomed, ignore_errors=True)


def remove_scratch(place: Path) -> None:
    """Remove what a killed maker of `place` left; only the holder of its lock may."""
    for left in place.parent.glob(f".{place.name}.*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
