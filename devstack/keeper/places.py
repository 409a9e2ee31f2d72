"""Where a stack's run folder is, what lies in it, and whether it can be trusted.

    $XDG_RUNTIME_DIR/devstack/<stack id>/      else <temp>/devstack-<uid>/<stack id>/
        control.sock keeper.sock               sockets of controller and keeper
        controller.lock keeper.lock            flocked while one of them lives
        keeper.log controller.log              what they say when something goes wrong
        entry.json                             what `devstack ls` shows; written by the controller
        run-<run>.json run-<run>.mark          marks of a run, see `marks`

Every folder is ours, 0700 and no symlink, or it is refused. Imported by each command and by the
keeper: standard library only, and nothing that is slow to import.
"""

from __future__ import annotations

import json
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_SOCKET_PATH = 107
"""What fits `sockaddr_un` with its final zero on Linux."""
ROOM_FOR_NAMES = 24
"""A socket's name in the run folder may be this long, slash included."""
STACK_ID_LENGTH = 10


class PlaceRefused(Exception):
    """A folder for sockets is not safely ours; the hint says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Places:
    """The run folder of one stack and the paths in it; making this object touches nothing."""

    __slots__ = ("folder",)

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Places({self.folder!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def stack_id(self) -> str:
        return os.path.basename(self.folder)

    @property
    def control_socket(self) -> str:
        return os.path.join(self.folder, "control.sock")

    @property
    def keeper_socket(self) -> str:
        return os.path.join(self.folder, "keeper.sock")

    @property
    def controller_lock(self) -> str:
        return os.path.join(self.folder, "controller.lock")

    @property
    def keeper_lock(self) -> str:
        return os.path.join(self.folder, "keeper.lock")

    @property
    def controller_log(self) -> str:
        return os.path.join(self.folder, "controller.log")

    @property
    def keeper_log(self) -> str:
        return os.path.join(self.folder, "keeper.log")

    @property
    def entry(self) -> str:
        return os.path.join(self.folder, "entry.json")


def stack_id_of(stack_file: str) -> str:
    """The id of the stack that a file describes: the same through every symlink that leads to it."""
    import hashlib  # slow to import, and the keeper never asks

    path = os.path.realpath(stack_file)
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:STACK_ID_LENGTH]


def user_folder(environment: Mapping[str, str] | None = None) -> str:
    """The folder that holds the run folders of all stacks of this user; it may not exist yet.

    A runtime folder that is not ours alone (left in the environment by `su`) and a path too long for
    a socket are passed over: then the temp folder, then `/tmp`.
    """
    env = os.environ if environment is None else environment
    uid = os.geteuid()
    runtime = env.get("XDG_RUNTIME_DIR", "")
    if runtime and _is_ours_alone(runtime, uid):
        folder = os.path.join(runtime, "devstack")
        if _fits(folder):
            return folder
    temp = env.get("TMPDIR", "")
    if temp and os.path.isabs(temp) and os.path.isdir(temp):
        folder = os.path.join(temp, f"devstack-{uid}")
        if _fits(folder):
            return folder
    return f"/tmp/devstack-{uid}"  # noqa: S108 -- owner, mode and kind are checked before it is used


def places_of(stack_id: str, environment: Mapping[str, str] | None = None) -> Places:
    """The run folder of a stack, as a path: nothing is made and nothing is checked."""
    return Places(os.path.join(user_folder(environment), stack_id))


def make(stack_id: str, environment: Mapping[str, str] | None = None) -> Places:
    """Make the run folder of a stack where it is missing; raises `PlaceRefused` for an unsafe one."""
    places = places_of(stack_id, environment)
    make_folders(places)
    return places


def make_folders(places: Places) -> None:
    """Make what is missing of a run folder; raises `PlaceRefused` for an unsafe one."""
    for folder in (os.path.dirname(places.folder), places.folder):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        except OSError as exc:
            raise PlaceRefused(
                f"cannot make {folder}: {exc.strerror}",
                "set XDG_RUNTIME_DIR to a folder of your own with mode 0700",
            ) from exc
        check_folder(folder)


def check(places: Places) -> bool:
    """Whether a stack has a run folder; raises `PlaceRefused` for an unsafe one. Makes nothing."""
    for folder in (os.path.dirname(places.folder), places.folder):
        if not os.path.lexists(folder):
            return False
        check_folder(folder)
    return True


def check_folder(folder: str) -> None:
    """Refuse a folder that is a symlink, somebody else's, or open to others.

    Its parent is ours or sticky, so nobody can replace the folder after this look.
    """
    status = os.lstat(folder)
    uid = os.geteuid()
    if stat.S_ISLNK(status.st_mode):
        reason = "it is a symlink"
    elif not stat.S_ISDIR(status.st_mode):
        reason = "it is not a folder"
    elif status.st_uid != uid:
        reason = f"it belongs to uid {status.st_uid}, not to {uid}"
    elif status.st_mode & 0o077:
        reason = f"its mode is {stat.S_IMODE(status.st_mode):04o}, not 0700"
    else:
        return
    raise PlaceRefused(
        f"cannot use {folder} for sockets: {reason}",
        "remove it, or set XDG_RUNTIME_DIR to a folder of your own with mode 0700",
    )


def stacks(environment: Mapping[str, str] | None = None) -> list[Places]:
    """The run folders of all stacks of this user, running or left over."""
    base = user_folder(environment)
    if not os.path.lexists(base):
        return []
    check_folder(base)
    with os.scandir(base) as entries:
        return [
            Places(entry.path)
            for entry in sorted(entries, key=lambda entry: entry.name)
            if entry.is_dir(follow_symlinks=False) and len(entry.name) == STACK_ID_LENGTH
        ]


def read_entry(places: Places) -> dict[str, object]:
    """What the controller wrote about its stack; empty when it wrote nothing that can be read."""
    try:
        with open(places.entry, encoding="utf-8") as file:
            entry = json.load(file)
    except (OSError, ValueError):
        return {}
    return entry if isinstance(entry, dict) else {}


def write_entry(places: Places, entry: Mapping[str, object]) -> None:
    """Replace the entry of a stack: whole or not at all."""
    write_whole(places.entry, json.dumps(dict(entry)))


def remove_entry(places: Places) -> None:
    """The stack is down: `devstack ls` shows it no more."""
    remove_file(places.entry)


def write_whole(path: str, text: str) -> None:
    """Write a file under another name and rename it into place; 0600."""
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.replace(temporary, path)


def remove_file(path: str) -> None:
    """Remove a file that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _fits(folder: str) -> bool:
    length = len(os.fsencode(folder)) + 1 + STACK_ID_LENGTH + ROOM_FOR_NAMES
    return length <= LONGEST_SOCKET_PATH


def _is_ours_alone(folder: str, uid: int) -> bool:
    """A runtime folder as the system makes it; what lies in it cannot be replaced by others."""
    try:
        status = os.stat(folder)
    except OSError:
        return False
    return (
        os.path.isabs(folder)
        and stat.S_ISDIR(status.st_mode)
        and status.st_uid == uid
        and not status.st_mode & 0o022
    )
