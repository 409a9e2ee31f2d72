"""What the files say: services, runs, and the lines a query asks for, merged in the order they arrived.

    logs/<service>/<run>/<producer>...   ──▶ a Cursor each ──▶ merge by monotonic time ──▶ lines
                                              runs one after the other, oldest first

Works with no controller running. Light to import (no asyncio, no pydantic, no pathlib): `devstack logs`
must start at once. What comes later than now belongs to `follow`.
"""
# pathlib is kept out: `devstack logs` starts without it
# ruff: noqa: PTH118

from __future__ import annotations

import heapq
import os
from collections import deque
from contextlib import closing

from devstack.logs.cursor import Cursor, Item
from devstack.logs.query import ALL, CURRENT, PREVIOUS, Filter, Line, Query, QueryError
from devstack.logs.segments import producers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

FIRST_WINDOW = 64 << 10
WINDOW_GROWTH = 8
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
MOST_OPEN = 100
"""More producers than this are opened only for their turn."""


class Source:
    """A cursor with the query's filter, and how many kept lines stand before the first wanted one."""

    __slots__ = ("cursor", "filter", "skip")

    def __init__(self, cursor: Cursor, query: Query) -> None:
        self.cursor = cursor
        self.filter = Filter(query)
        self.skip = 0

    def take(self) -> list[Item]:
        """The wanted items of the next record."""
        return self._wanted(self.cursor.take())

    def flush(self, hold_split_characters: bool = False) -> list[Item]:
        """The wanted among the lines that have not ended."""
        return self._wanted(self.cursor.flush(hold_split_characters))

    def _wanted(self, items: Iterable[Item]) -> list[Item]:
        kept = list(items)
        if not self.filter.keeps_all:
            kept = [item for item in kept if not isinstance(item, Line) or self.filter.keeps(item)]
        while self.skip and kept:
            self.skip -= isinstance(kept.pop(0), Line)
        return kept


class LogStore:
    """The logs folder of a checkout."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.fspath(root)

    def services(self) -> tuple[str, ...]:
        """Services that have ever written."""
        return tuple(_folders(self.root))

    def runs(self, service: str | None = None) -> tuple[str, ...]:
        """Ids of the runs that a service (or any) has written in, oldest first."""
        began: dict[str, int | None] = {}
        for name in self.services() if service is None else (service,):
            for run in _folders(os.path.join(self.root, name)):
                # one record is enough: runs follow one another
                if began.get(run) is None:
                    began[run] = self._any_time(name, run)
        return tuple(sorted(began, key=lambda run: (began[run] or 0, run)))

    def run_folders(self, service: str) -> tuple[str, ...]:
        """Ids of the runs of a service in no order: cheaper than `runs`."""
        return tuple(_folders(os.path.join(self.root, service)))

    def producers(self, service: str, run: str) -> tuple[str, ...]:
        """Replicas and steps that wrote in a run of a service."""
        return tuple(producers(self.folder(service, run)))

    def folder(self, service: str, run: str) -> str:
        """Where a service's output of a run lies."""
        return os.path.join(self.root, service, run)

    def read(self, query: Query) -> Iterator[Item]:
        """Everything there is now; a line that has not ended comes last, as partial."""
        self._check_services(query)
        opened = self.open(query)
        try:
            for sources in opened:
                yield from merge(sources, at_end=Source.flush)
        finally:
            for sources in opened:
                for source in sources:
                    source.cursor.close()

    def follow(self, query: Query, until: Callable[[], bool] | None = None) -> AsyncIterator[Item]:
        """Everything there is and what comes, for an event loop; see `follow.follow_async`."""
        from devstack.logs.follow import follow_async

        return follow_async(self, query, until)

    def open(self, query: Query) -> list[list[Source]]:
        """Where each producer is to be read from, by run; raises QueryError."""
        Filter(query)  # says what is wrong with the query before any file is opened
        groups = [self._sources(query, run) for run in self.wanted_runs(query)]
        if query.tail is not None:
            wanted = query.tail
            for sources in reversed(groups):
                wanted -= _keep_last(sources, wanted, query)
        elif query.since_ns is not None:
            for sources in groups:
                for source in sources:
                    source.cursor.seek_since(query.since_ns)
        return groups

    def wanted_runs(self, query: Query) -> tuple[str, ...]:
        """Ids of the runs a query asks for, oldest first; raises QueryError where there is none."""
        runs = self.runs()
        if query.run == ALL:
            return runs
        if query.run == CURRENT:
            return runs[-1:]
        if query.run == PREVIOUS:
            if len(runs) < 2:
                raise QueryError("there is no previous run", "leave --run out for the newest one")
            return runs[-2:-1]
        if query.run not in runs:
            known = ", ".join(runs[-5:]) or "there are none"
            raise QueryError(f"there is no run '{query.run}'", f"newest runs: {known}")
        return (query.run,)

    def source(self, service: str, run: str, producer: str, query: Query) -> Source:
        """One producer from its start."""
        return Source(Cursor(self.folder(service, run), service, run, producer), query)

    def _sources(self, query: Query, run: str) -> list[Source]:
        return [
            self.source(service, run, producer, query)
            for service in query.services or self.services()
            for producer in self.producers(service, run)
        ]

    def _check_services(self, query: Query) -> None:
        known = self.services()
        for service in query.services:
            if service not in known:
                raise QueryError(
                    f"there are no logs of '{service}'",
                    f"there are logs of {', '.join(known)}" if known else "nothing has run here",
                )

    def _any_time(self, service: str, run: str) -> int | None:
        for producer in self.producers(service, run):
            with closing(Cursor(self.folder(service, run), service, run, producer)) as cursor:
                record = cursor.first()
            if record is not None:
                return record.wall_ns
        return None


def merge(
    sources: Sequence[Source], at_end: Callable[[Source], list[Item]] | None = None
) -> Iterator[Item]:
    """Lines of several producers by the time they arrived, each producer's in its own order.

    Ends when no source has more now; may be called again.
    """
    heap: list[tuple[int, int, Source]] = []
    are_few = len(sources) <= MOST_OPEN
    for number, source in enumerate(sources):
        time = source.cursor.peek()
        if not are_few or (time is None and source.cursor.is_closed):
            source.cursor.close()  # opened again at its turn: most follow one another
        if time is not None:
            heap.append((time, number, source))
        elif at_end is not None:
            yield from at_end(source)
    heapq.heapify(heap)
    while heap:
        now, number, source = heap[0]
        yield from source.take()
        time = source.cursor.peek()
        if time is not None:
            heapq.heapreplace(heap, (max(now, time), number, source))
            if not are_few and heap[0][2] is not source:
                source.cursor.close()
            continue
        heapq.heappop(heap)
        if at_end is not None:
            yield from at_end(source)
        if not are_few or source.cursor.is_closed:
            source.cursor.close()


def _keep_last(sources: list[Source], wanted: int, query: Query) -> int:
    """Place the sources of a run so that the last `wanted` lines come; returns how many there are."""
    newest = []
    for number, source in enumerate(sources):
        last = source.cursor.last()  # and stands behind it: what comes later is not missed
        newest.append((last.mono_ns if last else 0, number))
        source.cursor.close()
    marks: list[tuple[int, int]] = []  # (time, source) of the newest lines, newest last
    totals: dict[int, int] = {}
    for last_time, number in sorted(newest, reverse=True):
        if wanted <= 0 or (len(marks) >= wanted and last_time < marks[-wanted][0]):
            break
        source, total, times = _count_back(sources[number], wanted, query)
        sources[number] = source
        totals[number] = total
        marks = sorted([*marks, *((time, number) for time in times)])[-wanted:]
    for number, total in totals.items():
        sources[number].skip = total - sum(mark[1] == number for mark in marks)
    return len(marks)


def _count_back(source: Source, wanted: int, query: Query) -> tuple[Source, int, deque[int]]:
    """A source that has at least `wanted` lines before it, how many, and the times of the last."""
    cursor = source.cursor
    size = max(FIRST_WINDOW, wanted * 64)
    earliest = _earliest_wanted(cursor, query)
    while True:
        start = Cursor(cursor.folder, cursor.service, cursor.run, cursor.producer)
        is_cut = start.seek_tail(size)
        fresh = Source(start, query)
        counted = Source(start.copy(), query)
        times: deque[int] = deque(maxlen=wanted)
        total = 0
        for item in merge([counted], at_end=Source.flush):
            if isinstance(item, Line):
                total += 1
                times.append(item.mono_ns)
        counted.cursor.close()
        is_early = start.place() <= earliest
        start.close()
        if total >= wanted or not is_cut or is_early:
            return fresh, total, times
        size *= WINDOW_GROWTH


def _earliest_wanted(cursor: Cursor, query: Query) -> tuple[int, int]:
    """The place before which the query wants nothing of a producer."""
    if query.since_ns is None:
        return -1, 0
    with closing(cursor.copy()) as first:
        first.seek_since(query.since_ns)
        return first.place()


def _folders(path: str) -> list[str]:
    """What is named as services and runs are; their names are shown, and others may bring a terminal to grief."""
    try:
        with os.scandir(path) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.name[0] != "." and _PLAIN.issuperset(entry.name) and entry.is_dir()
            )
    except (FileNotFoundError, NotADirectoryError):
        return []
