"""A stand-in for the controller, as a process of its own that can be killed: `controller.py FOLDER OUT`.

FOLDER is the run folder. What it did is written to OUT/controller-N.json, N counting controllers of
the same run. The plan for the first one is OUT/plan.json: {"mode", "specs": [...], "on_loss": [...]}.
A later one adopts: it writes what `list` told and stays. Marks of a test's own are in the plan.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from devstack.keeper.client import KeeperClient
from devstack.keeper.errors import KeeperUnreachable
from devstack.keeper.launch import start_keeper
from devstack.keeper.places import Places, write_whole
from devstack.keeper.requests import Command, LogTarget, SpawnSpec


async def main() -> None:
    places, out = Places(sys.argv[1]), Path(sys.argv[2])
    plan = json.loads((out / "plan.json").read_text())
    try:
        keeper = await KeeperClient.connect(places.keeper_socket)
    except KeeperUnreachable:
        await start_keeper(places)
        keeper = await KeeperClient.connect(places.keeper_socket)
        await start(keeper, plan)
    listing = await keeper.list()
    report = {
        "pid": os.getpid(),
        "keeper": keeper.greeting.pid,
        "warden": keeper.greeting.warden,
        "run_id": keeper.greeting.run_id,
        "processes": {process.key: process.pid for process in listing.processes},
        "exits": {ended.key: ended.signal for ended in listing.exits},
        "environment": sorted(name for name in os.environ if name.startswith("DEVSTACK_")),
    }
    write_whole(str(next_report(out)), json.dumps(report))
    await keeper.closed.wait()
    if plan.get("start_again"):
        again = await start_keeper(places)
        keeper = await KeeperClient.connect(places.keeper_socket)
        write_whole(
            str(next_report(out)),
            json.dumps(
                {
                    "pid": os.getpid(),
                    "keeper": keeper.greeting.pid,
                    "warden": keeper.greeting.warden,
                    "run_id": again,
                }
            ),
        )
        await keeper.closed.wait()


async def start(keeper: KeeperClient, plan: dict[str, object]) -> None:
    env = {"PATH": os.environ["PATH"]}
    specs = plan["specs"]
    assert isinstance(specs, list)
    for item in specs:
        log = LogTarget(*item["log"]) if item.get("log") else None
        await keeper.spawn(
            SpawnSpec(item["key"], item.get("group", "service"), tuple(item["argv"]), env, "/", log)
        )
    on_loss = plan.get("on_loss")
    if isinstance(on_loss, list):
        await keeper.on_loss(Command(tuple(on_loss), env, "/"))
    if plan["mode"] == "detached":
        respawn = plan.get("respawn")
        argv = tuple(respawn) if isinstance(respawn, list) else (sys.executable, *sys.argv)
        again = Command(argv, dict(os.environ), os.getcwd(), f"{sys.argv[2]}/said")
        await keeper.mode("detached", again)


def next_report(out: Path) -> Path:
    return out / f"controller-{len(list(out.glob('controller-*.json'))) + 1}.json"


if __name__ == "__main__":
    asyncio.run(main())
