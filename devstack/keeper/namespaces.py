"""How a process gets its own view of the machine: names, secrets, and a user that servers accept.

Everything here runs in the child between fork and exec, but `detect`, which tries it all once on
children of its own. What the system refuses is told in its words, never assumed.

    view, as root            mount namespace
    view, otherwise          user namespace that keeps the uid, with a mount namespace
    unprivileged, as root    user namespace in which we are `nobody`, else uid `nobody`
"""

from __future__ import annotations

import ctypes
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

NOBODY = 65534
HOSTS = "/etc/hosts"
RUN = "/run"
SECRETS = "/run/secrets"

MOUNT_NAMESPACE = "mount namespace"
USER_AND_MOUNT_NAMESPACE = "user+mount namespace"
USER_NAMESPACE = "user namespace"
NOBODY_USER = "nobody"
AS_IT_IS = "not root"

_libc = ctypes.CDLL(None, use_errno=True)


class Capabilities:
    """What the system let us do when it was tried at start."""

    __slots__ = ("hosts", "hosts_how", "secrets", "secrets_how", "unprivileged")

    def __init__(
        self, hosts: bool, hosts_how: str, secrets: bool, secrets_how: str, unprivileged: str
    ) -> None:
        self.hosts = hosts
        self.hosts_how = hosts_how
        """The way that works, or why none does."""
        self.secrets = secrets
        self.secrets_how = secrets_how
        self.unprivileged = unprivileged
        """The way that works, `not root` where none is needed, or why none does."""

    def to_wire(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


def become_subreaper() -> None:
    """Orphans among our descendants become our children."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "be a subreaper")


def set_name(name: str) -> None:
    """The name that `ps` shows."""
    _libc.prctl(PR_SET_NAME, name.encode("ascii"), 0, 0, 0)


def die_with_parent(parent: int, number: int) -> None:
    """Have the kernel signal us when the parent ends. After each change of user: those clear it.

    The parent may have ended before; then we end here.
    """
    _check(_libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0), "follow the keeper's death")
    if os.getppid() != parent:
        os._exit(1)


def enter_view(hosts: str | None, secrets: Mapping[str, str], how: str, scratch: str) -> None:
    """Show this process a hosts file and secrets of its own.

    `scratch` is a path for a moment's file. New mounts of the host still show up here, ours never there.
    """
    contents = [(name, _read(source)) for name, source in secrets.items()]
    _enter_mount_namespace(how)
    if hosts is not None:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.fchmod(descriptor, 0o644)  # whatever the umask is: servers drop their user
            _write(descriptor, hosts.encode("utf-8", "surrogateescape"))
            _mount(scratch, HOSTS, None, MS_BIND)
        finally:
            os.close(descriptor)
            os.unlink(scratch)  # the mount keeps it
    if contents:
        _mount_secrets(contents)


def become_nobody(how: str) -> None:
    """Be somebody whom servers that refuse root accept; `how` is what `detect` found to work."""
    if how == USER_NAMESPACE:
        uid, gid = os.geteuid(), os.getegid()
        _unshare(CLONE_NEWUSER)
        _map_user(NOBODY, uid, NOBODY, gid)
    else:
        uid, gid = nobody()
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def nobody() -> tuple[int, int]:
    """Uid and gid of the system's `nobody`."""
    import pwd  # only for the rarest way of all

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return NOBODY, NOBODY
    return entry.pw_uid, entry.pw_gid


def detect(scratch: str) -> Capabilities:
    """Try each thing in a child of its own, best way first."""
    is_root = os.geteuid() == 0
    ways = ([MOUNT_NAMESPACE] if is_root else []) + [USER_AND_MOUNT_NAMESPACE]
    hosts, hosts_how = False, "there is no /etc/hosts"
    if os.path.isfile(HOSTS):
        hosts, hosts_how = _first_that_works(ways, lambda how: _try_hosts(how, scratch))
    secrets, secrets_how = _first_that_works(ways, lambda how: _try_secrets(how, scratch))
    unprivileged = AS_IT_IS
    if is_root:
        _, unprivileged = _first_that_works([USER_NAMESPACE, NOBODY_USER], become_nobody)
    return Capabilities(hosts, hosts_how, secrets, secrets_how, unprivileged)


def _first_that_works(ways: list[str], attempt: Callable[[str], None]) -> tuple[bool, str]:
    reason = ""
    for way in ways:
        reason = _attempt_in_child(attempt, way)
        if not reason:
            return True, way
    return False, reason


def _attempt_in_child(attempt: Callable[[str], None], way: str) -> str:
    """Why it did not work, in the system's words; empty when it did."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1  # whatever else goes wrong in there is no success either
        try:
            attempt(way)
            code = 0
        except OSError as exc:
            os.write(writer, str(exc.strerror or exc).encode())
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as answer:
        reason = answer.read()
    _, status = os.waitpid(pid, 0)
    return reason if reason or status == 0 else f"the attempt ended with {status}"


def _try_hosts(how: str, scratch: str) -> None:
    enter_view("127.0.0.1 localhost devstack-probe\n", {}, how, scratch)
    with open(HOSTS, encoding="utf-8") as file:
        if "devstack-probe" not in file.read():
            raise OSError("the private hosts file does not show")


def _try_secrets(how: str, scratch: str) -> None:
    enter_view(None, {"devstack-probe": "/proc/self/comm"}, how, scratch)
    if not os.path.isfile(f"{SECRETS}/devstack-probe"):
        raise OSError("the private secrets do not show")


def _enter_mount_namespace(how: str) -> None:
    if how == USER_AND_MOUNT_NAMESPACE:
        uid, gid = os.geteuid(), os.getegid()
        _unshare(CLONE_NEWUSER | CLONE_NEWNS)
        _map_user(uid, uid, gid, gid)
    else:
        _unshare(CLONE_NEWNS)
    try:
        _mount(None, "/", None, MS_REC | MS_SLAVE)
    except OSError:
        if how == USER_AND_MOUNT_NAMESPACE:
            raise
        _detach_from_below_a_chroot()


def _detach_from_below_a_chroot() -> None:
    """In a chroot our root is no mount, so it cannot be detached by its name: go out, detach, come back.

    Entering the namespace that we are already in makes its real root ours.
    """
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(namespace, CLONE_NEWNS), "enter the mount namespace")
        _mount(None, "/", None, MS_REC | MS_SLAVE)
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(folder)
    finally:
        for descriptor in (root, folder, namespace):
            os.close(descriptor)


def _mount_secrets(contents: list[tuple[str, bytes]]) -> None:
    if not os.path.isdir(SECRETS):
        _cover_run()
        os.mkdir(SECRETS, 0o755)
    _mount("tmpfs", SECRETS, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=16m,mode=0755")
    for name, content in contents:
        path = os.path.join(SECRETS, name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            os.fchmod(
                descriptor, 0o444
            )  # the folder is seen by this process and its children alone
            _write(descriptor, content)
        finally:
            os.close(descriptor)
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
    _mount(None, SECRETS, None, flags)


def _cover_run() -> None:
    """Put a private folder over /run that shows all that /run shows: `secrets` is not made on the host."""
    old = os.open(RUN, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        names = os.listdir(old)
        _mount("tmpfs", RUN, "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=0755")
        for name in names:
            _show_again(f"/proc/self/fd/{old}/{name}", os.path.join(RUN, name))
    finally:
        os.close(old)


def _show_again(source: str, target: str) -> None:
    try:
        status = os.lstat(source)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), target)
            return
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(target, 0o755)
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        _mount(source, target, None, MS_BIND | MS_REC)
    except OSError:
        return  # it went away, or is somebody's own mount: one entry less, not no secrets at all


def _map_user(inner_uid: int, outer_uid: int, inner_gid: int, outer_gid: int) -> None:
    for path, line in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"{inner_uid} {outer_uid} 1"),
        ("/proc/self/gid_map", f"{inner_gid} {outer_gid} 1"),
    ):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, line.encode("ascii"))
        finally:
            os.close(descriptor)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(descriptor: int, content: bytes) -> None:
    """All of it: what is full takes a part, and only then refuses."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "make a namespace")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    result = _libc.mount(
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode("ascii"),
        ctypes.c_ulong(flags),
        data.encode("ascii") if data else None,
    )
    _check(result, f"mount {target}", target)


def _check(result: int, what: str, path: str | None = None) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {what}: {os.strerror(number)}", path)
