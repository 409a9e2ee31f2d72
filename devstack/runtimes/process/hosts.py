"""The private hosts file of something that runs, written anew in place.

It is a file that was unlinked as soon as the process had mounted it over its own /etc/hosts
(`keeper.namespaces`), so it can be reached through the process alone.
"""

import os


def rewrite_hosts(pid: int, text: str) -> bool:
    """Let a process and all that share its mounts see other names; False where it has no file of ours.

    In one write, then cut to length: who reads meanwhile sees whole lines.
    """
    try:
        descriptor = os.open(f"/proc/{pid}/root/etc/hosts", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False  # gone meanwhile, or somebody else's
    try:
        status = os.fstat(descriptor)
        if status.st_nlink != 0 or status.st_uid != os.geteuid():
            return False  # the machine's own, which is nobody's to change
        content = text.encode("utf-8", "surrogateescape")
        if os.pread(descriptor, status.st_size, 0) != content:
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
        return True
    finally:
        os.close(descriptor)
