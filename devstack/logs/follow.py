"""What comes after what there is: new lines, segments, replicas and runs, as they are written.

The keeper notifies nobody (a reader must never slow it down), so files are looked at: one `fstat` for
each open index, every 10 ms while lines come, up to every 50 ms while none do; folders every 100 ms,
and listed only when they changed. inotify would need ctypes (a third of the start of `devstack logs`),
counts against a limit the user's editor and watchers share, and is blind on network file systems and
elsewhere than Linux; for twenty replicas the looking costs a few thousandths of a core.

A reader that is slower than the writers is never more than `max_behind` bytes behind each of them:
the rest is skipped and told as a Gap. Nothing is kept for it in memory: the files have it.
"""
# pathlib is kept out: `devstack logs -f` starts without it
# ruff: noqa: PTH116

from __future__ import annotations

import os
import time

from devstack.logs.query import ALL, CURRENT
from devstack.logs.reader import LogStore, Source, merge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from devstack.logs.cursor import Item
    from devstack.logs.query import Query

SHORTEST_WAIT = 0.01
LONGEST_WAIT = 0.05
FOLDERS_EVERY_NS = 100_000_000
PARTIAL_AFTER_NS = 2_000_000_000
"""A line without a newline is shown when nothing was added to it for so long."""
MAX_BEHIND = 1 << 20
HEAD_START = 16
"""What exists when the follower meets a producer is not behind, and this many times more is not yet."""
CLOSED_EVERY = 10
"""A producer that has ended is looked at once in that many looks, rarer where there are hundreds."""
SETTLED_NS = 1_000_000_000
"""A folder that changed later than this ago may change again without a new time stamp."""


class Follower:
    """Remembers where every producer was left; `poll` gives what is new."""

    def __init__(
        self, store: LogStore, query: Query, *, max_behind: int | None = MAX_BEHIND
    ) -> None:
        self._store = store
        self._query = query
        self._max_behind = max_behind
        runs = store.runs()
        self._groups: dict[str, list[Source]] = {}
        self._known: set[tuple[str, str, str]] = set()
        for sources in store.open(query):
            for source in sources:
                self._add(source)
        wanted = store.wanted_runs(query)
        self._ignored_runs = frozenset(runs) - frozenset(wanted)
        self._only_run = None if query.run in (CURRENT, ALL) else query.run
        if self._only_run is not None:
            self._only_run = wanted[0]
        self._listed: dict[str, int] = {}
        self._look_at = 0
        self._looks = 0

    def history(self) -> Iterator[Item]:
        """What there is; lines of earlier runs are complete with it."""
        runs = list(self._groups)
        for run in runs:
            yield from merge(self._groups[run], None if run == runs[-1] else Source.flush)
        self._have_caught_up()

    def poll(self) -> Iterator[Item]:
        """What came since."""
        now = time.monotonic_ns()
        if now >= self._look_at:
            self._look_at = now + FOLDERS_EVERY_NS
            self._look_for_producers()
        self._looks += 1
        with_closed = self._looks % (CLOSED_EVERY + len(self._known) // 10) == 0
        for sources in self._groups.values():
            yield from merge(
                [source for source in sources if with_closed or not source.cursor.is_closed]
            )
        self._have_caught_up()
        now = time.monotonic_ns()
        for sources in self._groups.values():
            for source in sources:
                begun = source.cursor.oldest_begun()
                # a time that is yet to come is one of an earlier boot
                if begun is not None and not begun <= now < begun + PARTIAL_AFTER_NS:
                    yield from source.flush(hold_split_characters=True)

    def finish(self) -> Iterator[Item]:
        """What came since, and every line that has not ended."""
        self._look_for_producers()
        for sources in self._groups.values():
            yield from merge(sources, at_end=Source.flush)

    def close(self) -> None:
        """Let go of the files."""
        for sources in self._groups.values():
            for source in sources:
                source.cursor.close()

    def _add(self, source: Source) -> None:
        cursor = source.cursor
        if self._max_behind is not None:
            cursor.max_behind = cursor.behind() + self._max_behind * HEAD_START
            cursor.close()
        self._known.add((cursor.service, cursor.run, cursor.producer))
        self._groups.setdefault(cursor.run, []).append(source)

    def _have_caught_up(self) -> None:
        for sources in self._groups.values():
            for source in sources:
                source.cursor.max_behind = self._max_behind

    def _look_for_producers(self) -> None:
        for service in self._query.services or self._store.services():
            for run in (self._only_run,) if self._only_run else self._store.run_folders(service):
                if run in self._ignored_runs:
                    continue
                folder = self._store.folder(service, run)
                if not self._has_changed(folder):
                    continue
                for producer in self._store.producers(service, run):
                    if (service, run, producer) not in self._known:
                        self._add(self._store.source(service, run, producer, self._query))
                for source in self._groups.get(run, ()):
                    if source.cursor.service == service:
                        source.cursor.leave_removed()

    def _has_changed(self, folder: str) -> bool:
        try:
            changed = os.stat(folder).st_mtime_ns
        except FileNotFoundError:
            return False
        if self._listed.get(folder) == changed:
            return False
        if time.time_ns() - changed > SETTLED_NS:
            self._listed[folder] = changed
        return True


def follow(
    store: LogStore,
    query: Query,
    until: Callable[[], bool] | None = None,
    *,
    max_behind: int | None = MAX_BEHIND,
) -> Iterator[Item]:
    """Everything there is and what comes, until `until` says so; then the rest, to the last byte."""
    follower = Follower(store, query, max_behind=max_behind)
    try:
        yield from follower.history()
        wait = SHORTEST_WAIT
        while not (until and until()):
            found = False
            for item in follower.poll():
                found = True
                yield item
            wait = SHORTEST_WAIT if found else min(wait * 1.5, LONGEST_WAIT)
            time.sleep(wait)  # the files cannot be awaited: see above
        yield from follower.finish()
    finally:
        follower.close()


async def follow_async(
    store: LogStore,
    query: Query,
    until: Callable[[], bool] | None = None,
    *,
    max_behind: int | None = MAX_BEHIND,
) -> AsyncIterator[Item]:
    """As `follow`, between the other work of an event loop."""
    import asyncio

    follower = Follower(store, query, max_behind=max_behind)
    try:
        for number, item in enumerate(follower.history()):
            yield item
            if number % 256 == 0:
                await asyncio.sleep(0)
        wait = SHORTEST_WAIT
        while not (until and until()):
            number = -1
            for number, item in enumerate(follower.poll()):
                yield item
                if number % 256 == 255:
                    await asyncio.sleep(0)
            wait = SHORTEST_WAIT if number >= 0 else min(wait * 1.5, LONGEST_WAIT)
            await asyncio.sleep(wait)
        for item in follower.finish():
            yield item
    finally:
        follower.close()
