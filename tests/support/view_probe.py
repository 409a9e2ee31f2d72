"""What a process sees that the keeper started with a view: `view_probe.py RUNTIME_FOLDER SECRET_FILE`.

Prints one JSON object. A program of its own, so that it can run as another user and in a chroot.
"""

import asyncio
import json
import os
import sys

from devstack.keeper import places
from devstack.keeper.client import KeeperClient
from devstack.keeper.launch import start_keeper
from devstack.keeper.requests import SpawnSpec, View
from devstack.runtimes.process.hosts import rewrite_hosts

SEEN = """
import json, os, sys
def read(path):
    try:
        with open(path) as file: return file.read()
    except OSError as exc: return type(exc).__name__
def write(path):
    try:
        with open(path, "w") as file: return "written"
    except OSError as exc: return exc.strerror
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(),
    "hosts": read("/etc/hosts"),
    "secret": read("/run/secrets/db-password"),
    "secret_written": write("/run/secrets/db-password"),
    "run": sorted(os.listdir("/run")),
    "cwd": os.getcwd(),
}))
"""


WAITS = """
import time
deadline = time.monotonic() + 10
while "late" not in open("/etc/hosts").read() and time.monotonic() < deadline:
    time.sleep(0.005)
print(open("/etc/hosts").read(), end="")
"""


async def main() -> None:
    place = places.make("0123456789", {"XDG_RUNTIME_DIR": sys.argv[1]})
    await start_keeper(place)
    keeper = await KeeperClient.connect(place.keeper_socket)
    capabilities = keeper.capabilities
    hosts = "127.0.0.1 localhost\n127.64.0.9 redis db\n"
    views = {
        "none": None,
        "names": View(hosts=hosts),
        "all": View(hosts=hosts, secrets={"db-password": sys.argv[2]}),
        "unprivileged": View(
            hosts=hosts, secrets={"db-password": sys.argv[2]}, as_user="unprivileged"
        ),
    }
    seen: dict[str, object] = {}
    for name, view in views.items():
        await keeper.spawn(
            SpawnSpec(
                key=name,
                group=name,
                argv=("/usr/bin/python3", "-I", "-S", "-c", SEEN),
                env={"PATH": "/usr/bin:/bin"},
                cwd=sys.argv[1],
                view=view,
            )
        )
        ended = await asyncio.wait_for(keeper.exits.get(), 20)
        output = ended.output.decode()
        seen[name] = json.loads(output) if ended.code == 0 else output
    renewed: dict[str, str] = {}
    for name in ("names", "unprivileged"):
        process = await keeper.spawn(
            SpawnSpec(
                key=f"{name} renewed",
                group=name,
                argv=("/usr/bin/python3", "-I", "-S", "-c", WAITS),
                env={"PATH": "/usr/bin:/bin"},
                cwd="/",
                view=views[name],
            )
        )
        rewrite_hosts(process.pid, "127.64.0.10 late\n")
        renewed[name] = (await asyncio.wait_for(keeper.exits.get(), 20)).output.decode()
    left = sorted(os.listdir(place.folder))
    await keeper.shutdown()
    told = {
        "uid": os.getuid(),
        "hosts": capabilities.hosts,
        "hosts_how": capabilities.hosts_how,
        "secrets": capabilities.secrets,
        "unprivileged": capabilities.unprivileged,
        "seen": seen,
        "renewed": renewed,
        "left": [name for name in left if name.startswith("hosts")],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
