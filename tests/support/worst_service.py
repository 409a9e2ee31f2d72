"""The worst service a supervisor can be given: `worst_service.py TAG [option …]`. Standard library only.

    child            a child in the same session
    daemon           a daemon: setsid, double fork, all descriptors above 2 closed
    bare             a daemon as `daemon`, with an empty environment too (`env -i`)
    deaf             ignores TERM
    numbers=FILE     writes numbered lines as fast as it can; FILE holds how many writes returned
    rest=SECONDS     rests so long after every 50 numbered lines
    say=TEXT         writes TEXT once, as it is
    exit=N           ends with N when all of this is set up

Every process carries TAG in its command line. It says `up` in the file named by `ready=FILE`.
"""

import mmap
import os
import signal
import sys
import time
from pathlib import Path

LINE = 64


def main() -> None:
    tag, *options = sys.argv[1:]
    given = dict(option.partition("=")[::2] for option in options)
    if "deaf" in given:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "child" in given:
        start_child(tag)
    for name in ("daemon", "bare"):
        if name in given:
            start_daemon(tag, name)
    if "say" in given:
        os.write(1, given["say"].encode())
    if "ready" in given:
        Path(given["ready"]).write_text("up")
    if "exit" in given:
        os._exit(int(given["exit"]))
    if "numbers" in given:
        write_numbers(given["numbers"], float(given.get("rest", 0)))
    while True:
        signal.pause()


def sleeper(tag: str, role: str, env: dict[str, str]) -> None:
    os.execve("/bin/sh", ["sh", "-c", f"sleep 1000; : {tag} {role}"], env)


def start_child(tag: str) -> None:
    if os.fork() == 0:
        sleeper(tag, "child", dict(os.environ))


def start_daemon(tag: str, role: str) -> None:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.closerange(3, writer)
            os.closerange(writer + 1, 4096)  # exec closes this one, which tells the parent
            sleeper(tag, role, {} if role == "bare" else dict(os.environ))
        os._exit(0)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    os.wait()


def write_numbers(path: str, rest: float) -> None:
    """A line is acknowledged when `write` returned: counted in memory that outlives this process."""
    with open(path, "wb") as file:
        file.truncate(8)
    with open(path, "r+b") as file:
        counter = mmap.mmap(file.fileno(), 8)
    number = 0
    while True:
        os.write(1, f"{number:0{LINE - 1}d}\n".encode())
        number += 1
        counter[:8] = number.to_bytes(8, "little")
        if rest and number % 50 == 0:
            time.sleep(rest)


if __name__ == "__main__":
    main()
