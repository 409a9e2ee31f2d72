"""D07: the disk is full as a service says its last words: they are kept until it has room, or told as lost.

The disk is full for the keeper alone: no file that it writes may grow beyond a size.
"""

import asyncio
import resource
from pathlib import Path

from devstack.keeper.answers import LogProblem
from devstack.keeper.client import KeeperClient
from devstack.keeper.places import Places
from devstack.keeper.requests import LogTarget
from devstack.logs.format import file_name
from devstack.logs.query import Gap, Line, Query
from devstack.logs.reader import LogStore
from tests.support.keepers import run_to_end, running_keeper, spec
from tests.support.processes import eventually_async

ROOM = 4096
WORDS = b"x" * 8000 + b"\nPANIC no newline"


def limit_files(keeper: KeeperClient, size: int) -> None:
    hard = resource.prlimit(keeper.greeting.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(keeper.greeting.pid, resource.RLIMIT_FSIZE, (size, hard))


async def problem(keeper: KeeperClient) -> LogProblem:
    async with asyncio.timeout(10):
        while True:
            notice = await keeper.notices.get()
            if isinstance(notice, LogProblem):
                return notice


async def say_last_words(keeper: KeeperClient, root: Path, key: str) -> None:
    """In two writes, of which the first has 4096 bytes."""
    text = WORDS.decode().replace("\n", "\\n")
    log = LogTarget(str(root / "orders" / "r1"), key)
    await run_to_end(keeper, spec(key, "printf", text, log=log))


def lines(root: Path) -> list[bytes]:
    return [item.text for item in LogStore(root).read(Query()) if isinstance(item, Line)]


def test_d07_last_words_are_written_when_there_is_room_again(
    places: Places, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with running_keeper(places) as keeper:
            limit_files(keeper, ROOM // 2)  # whatever comes in one read finds no room
            await say_last_words(keeper, tmp_path, "orders.1#1")
            full = await problem(keeper)
            before = lines(tmp_path)
            limit_files(keeper, resource.RLIM_INFINITY)
            fine = await problem(keeper)
            await eventually_async(lambda: lines(tmp_path) == WORDS.split(b"\n"))

        assert (full.problem, full.dropped_bytes) == ("File too large", 0)
        assert before == []
        assert (fine.problem, fine.dropped_bytes) == (None, 0)

    asyncio.run(scenario())


def test_d07_last_words_that_never_found_room_are_told_as_lost(
    places: Places, tmp_path: Path
) -> None:
    count = 20

    async def scenario() -> list[LogProblem]:
        async with running_keeper(places) as keeper:
            limit_files(keeper, ROOM)
            for number in range(count):
                await say_last_words(keeper, tmp_path, f"orders.1#{number}")
            await keeper.shutdown()
            await asyncio.wait_for(keeper.closed.wait(), 10)
            told = [keeper.notices.get_nowait() for _ in range(keeper.notices.qsize())]
            return [notice for notice in told if isinstance(notice, LogProblem)]

    told = asyncio.run(scenario())

    names = {f"orders.1#{number}" for number in range(count)}
    lost = {notice.name: notice.dropped_bytes for notice in told if notice.dropped_bytes}
    # what came in two reads may have found room for the first of them
    kept = {
        name: len((tmp_path / "orders" / "r1" / file_name(name, "log", 0)).read_bytes())
        for name in names
    }
    assert {name: lost[name] + kept[name] for name in names} == dict.fromkeys(names, len(WORDS))
    log = Path(places.keeper_log).read_text()
    assert all(f"log of {name} in " in log for name in names)
    gaps = [item.size for item in LogStore(tmp_path).read(Query()) if isinstance(item, Gap)]
    assert sum(gaps) == sum(lost.values())
    assert len(gaps) == count
