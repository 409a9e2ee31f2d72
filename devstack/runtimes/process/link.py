"""The controller's line to its keeper: one connection, every exit sorted to whoever waits for it.

A keeper that dies takes its processes with it: all who wait are told (`KeeperUnreachable`, ends
marked as a loss), a new keeper is started, and reconcile fills the slots again.
"""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import assert_never

from devstack.core.events import Exit as End
from devstack.keeper import processes
from devstack.keeper.answers import Exit, LeftBehind, Listing, LogProblem, Process
from devstack.keeper.client import KeeperClient
from devstack.keeper.errors import KeeperRefused, KeeperUnreachable
from devstack.keeper.launch import keeper_started, start_keeper
from devstack.keeper.marks import Run, runs_in
from devstack.keeper.places import Places
from devstack.keeper.protocol import STEP_PREFIXES
from devstack.keeper.requests import SpawnSpec
from devstack.keeper.starting import Starting
from devstack.keeper.sweep import sweep
from devstack.runtimes.base import ReplicaEnd

LAST_WORK_SECONDS = 5.0
"""How long a warden whose keeper died (or the other way round) may take to end what they ran."""

KILLED_SECONDS = 2.0
"""How long a killed step is waited for."""

Notice = Callable[[str, str], None]
"""(service, one line for people)."""


class KeeperLink:
    """See the module's docstring. `open` before anything else; `serve` runs for ever."""

    def __init__(
        self,
        places: Places,
        *,
        open_files: int | None,
        notice: Notice,
        starting: Starting | None = None,
    ) -> None:
        self._places = places
        self._open_files = open_files
        self._notice = notice
        self._starting = starting
        """A keeper that is on its way already."""
        self._client: KeeperClient | None = None
        self._waiting: dict[str, asyncio.Future[Exit]] = {}
        self._replicas: set[str] = set()
        self._ends: asyncio.Queue[ReplicaEnd] = asyncio.Queue()
        self._heard: list[str] = []
        """Replicas whose end somebody took from `ends`; the keeper still keeps it."""
        self._recorded: list[str] = []
        self._has_recorded = asyncio.Event()
        self._held: list[Exit] | None = []
        """Exits of replicas that nobody here has heard of yet, until `recover` was told what runs."""
        self._opened = asyncio.Event()
        self._own = os.urandom(4).hex()
        self._numbers = itertools.count(1)
        self.on_open: Callable[[KeeperClient], Awaitable[None]] | None = None
        """Called after each connection, the first included: mode, on_loss, addresses."""
        self.on_lost: Callable[[str], None] | None = None
        self.on_found: Callable[[], None] | None = None
        self.run_id = ""

    # ── life ──────────────────────────────────────────────────────────────────────────────────

    async def open(self, *, may_start: bool = True) -> bool:
        """Connect to the keeper that runs, else start one; True when there was one.

        Raises `KeeperUnreachable`, `ProtocolMismatch`.
        """
        client, was_there = await self._connect(may_start=may_start)
        self._client = client
        self.run_id = client.greeting.run_id
        if self.on_open is not None:
            await self.on_open(client)
        self._opened.set()
        return was_there

    async def _connect(self, *, may_start: bool) -> tuple[KeeperClient, bool]:
        """A connection, and whether the keeper is somebody else's."""
        starting, self._starting = self._starting, None
        if starting is not None:
            await keeper_started(self._places, starting)
            return await KeeperClient.connect(self._places.keeper_socket), False
        try:
            return await KeeperClient.connect(self._places.keeper_socket), True
        except KeeperUnreachable:
            if not may_start:
                raise
        await self._sweep()
        await start_keeper(self._places, open_files=self._open_files)
        return await KeeperClient.connect(self._places.keeper_socket), False

    async def _sweep(self) -> None:
        """End what dead runs left, once the last of keeper and warden has done its part or is dead.

        It may hold ports and data that the next run needs.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORK_SECONDS):
                while any(  # noqa: ASYNC110 - not our children: there is nothing to await
                    _is_ending(run) for run in runs_in(self._places.folder)
                ):
                    await asyncio.sleep(0.01)
        for dead in await asyncio.to_thread(sweep, [self._places], kill=True):
            self._notice("", str(dead))

    async def serve(self) -> None:
        """Sort exits; when the keeper dies tell everybody and start another, for ever."""
        while True:
            client = self.client
            async with asyncio.TaskGroup() as tasks:
                readers = [
                    tasks.create_task(self._sort_exits(client)),
                    tasks.create_task(self._acknowledge(client)),
                    tasks.create_task(self._tell_notices(client)),
                ]
                await client.closed.wait()
                for reader in readers:
                    reader.cancel()
            self._opened.clear()
            self._lose_everything()
            if self.on_lost is not None:
                self.on_lost("the keeper died; another one is being started")
            await self.open()
            if self.on_found is not None:
                self.on_found()

    @property
    def client(self) -> KeeperClient:
        assert self._client is not None, "the keeper is used before it was opened"
        return self._client

    def _lose_everything(self) -> None:
        """What the dead keeper ran is gone with it."""
        while not self.client.exits.empty():
            self._sort(self.client.exits.get_nowait())
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(KeeperUnreachable("the keeper died"))
                # a helper's end may be asked for later; until then nobody has to hear of it
                waiting.exception()
        for replica in self._replicas:
            end = End(None, 9, "ended with its keeper, which died", wall=time.time())
            self._ends.put_nowait(ReplicaEnd(replica, end, is_loss=True))
        self._replicas.clear()
        if self._held is not None:
            self._held.clear()

    # ── processes ─────────────────────────────────────────────────────────────────────────────

    def step_key(self, prefix: str, about: str) -> str:
        """A key for a step: not one of an earlier controller's, which the keeper may still be ending."""
        assert prefix in STEP_PREFIXES
        return f"{prefix}{about}:{self._own}.{next(self._numbers)}"

    async def spawn_replica(self, spec: SpawnSpec) -> Process:
        """Start a replica; its end comes through `ends`. Raises `SpawnError`, `KeeperUnreachable`."""
        await self._opened.wait()
        self._replicas.add(spec.key)
        try:
            return await self.client.spawn(spec)
        except BaseException:
            self._replicas.discard(spec.key)
            raise

    async def run(self, spec: SpawnSpec) -> Exit:
        """Start a step and wait for its end; a cancelled wait kills it with all it started.

        Raises `SpawnError`, `KeeperUnreachable`.
        """
        await self.start(spec)
        return await self.wait(spec.key)

    async def run_for(self, spec: SpawnSpec, timeout_seconds: float) -> Exit:
        """As `run`, but it and all it started are killed at the time-out (TimeoutError)."""
        async with asyncio.timeout(timeout_seconds):
            return await self.run(spec)

    async def start(self, spec: SpawnSpec) -> Process:
        """Start a step; somebody then calls `wait`."""
        await self._opened.wait()
        self._waiting[spec.key] = asyncio.get_running_loop().create_future()
        try:
            return await self.client.spawn(spec)
        except asyncio.CancelledError:
            # the keeper has been asked and takes requests in order: it must not run for nobody
            await self._end(spec.key, self._waiting[spec.key])
            self._waiting.pop(spec.key, None)
            raise
        except BaseException:
            self._waiting.pop(spec.key, None)
            raise

    async def wait(self, key: str) -> Exit:
        """The end of a step that was started."""
        waiting = self._waiting[key]
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await self._end(key, waiting)
            raise
        finally:
            self._waiting.pop(key, None)

    async def _end(self, key: str, waiting: "asyncio.Future[Exit]") -> None:
        """Kill a step that nobody waits for any longer, and see it gone.

        Whoever tries again, as a probe does, must not find the last one still there.
        """
        with contextlib.suppress(KeeperUnreachable, KeeperRefused, TimeoutError):
            await self.client.kill(key)
            async with asyncio.timeout(KILLED_SECONDS):
                await asyncio.shield(waiting)

    async def stop(self, key: str, signal: int, grace_seconds: float) -> None:
        """Ask a process to end; nothing happens when it is gone.

        A replica that the keeper does not know any more is lost, if its end was not told: somebody
        waits for that.
        """
        try:
            await self.client.stop(key, signal, grace_seconds)
        except KeeperUnreachable:
            return  # its end is told with all others
        except KeeperRefused as error:
            if error.kind == "unknown" and key in self._replicas:
                self._replicas.discard(key)
                end = End(None, None, "is gone; nobody saw how it ended", wall=time.time())
                self._ends.put_nowait(ReplicaEnd(key, end, is_loss=True))

    async def descendants(self, key: str) -> frozenset[int]:
        """The pids that belong to a process; none when it is gone."""
        try:
            return await self.client.descendants(key)
        except (KeeperUnreachable, KeeperRefused):
            return frozenset()

    async def recover(self) -> Listing:
        """What runs and what ended; replicas found are looked after from now on.

        The exits that are listed count as heard. One that came after the list is told as any.
        """
        listing = await self.client.list()
        keys = [process.key for process in listing.processes]
        self._replicas.update(key for key in keys if not key.startswith(STEP_PREFIXES))
        held, self._held = self._held or [], None
        listed = {exit_.key for exit_ in listing.exits}
        later = [exit_ for exit_ in held if exit_.key not in listed]
        for exit_ in later:
            self._sort(exit_)
        self._heard += [exit_.key for exit_ in listing.exits]
        for key in keys:
            if key.startswith(STEP_PREFIXES):
                with contextlib.suppress(KeeperRefused):  # it ended meanwhile
                    await self.client.kill(key)
        return listing

    async def ends(self) -> AsyncIterator[ReplicaEnd]:
        """Ends of replicas, for ever."""
        while True:
            end = await self._ends.get()
            yield end
            self._heard.append(end.replica)

    def acknowledge(self) -> None:
        """Let the keeper forget the ends that were heard: they are where a next controller finds them."""
        self._recorded += self._heard
        self._heard.clear()
        if self._recorded:
            self._has_recorded.set()

    async def _acknowledge(self, client: KeeperClient) -> None:
        while True:
            await self._has_recorded.wait()
            self._has_recorded.clear()
            while self._recorded:
                with contextlib.suppress(KeeperUnreachable, KeeperRefused):
                    await client.ack(self._recorded.pop())

    # ── sorting ───────────────────────────────────────────────────────────────────────────────

    async def _sort_exits(self, client: KeeperClient) -> None:
        while True:
            exit_ = await client.exits.get()
            if self._sort(exit_):
                with contextlib.suppress(KeeperUnreachable, KeeperRefused):
                    await client.ack(exit_.key)

    def _sort(self, exit_: Exit) -> bool:
        """Tell whoever waits for it; False where the keeper must not forget it yet."""
        waiting = self._waiting.get(exit_.key)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(exit_)
        elif exit_.key in self._replicas:
            self._replicas.discard(exit_.key)
            self._ends.put_nowait(replica_end(exit_))
            return False
        elif self._held is not None and not exit_.key.startswith(STEP_PREFIXES):
            self._held.append(exit_)
            return False
        return True

    async def _tell_notices(self, client: KeeperClient) -> None:
        while True:
            match await client.notices.get():
                case LeftBehind(_, group, killed, still_there):
                    if killed:
                        self._notice(group, f"left behind and killed: {', '.join(killed)}")
                    if still_there:
                        names = ", ".join(still_there)
                        self._notice(group, f"left behind, and cannot be killed: {names}")
                case LogProblem(folder, _, problem, dropped):
                    lost = f"({dropped} bytes lost)"
                    self._notice(
                        "",
                        f"cannot write logs in {folder}: {problem} {lost}"
                        if problem is not None
                        else f"logs in {folder} are written again {lost}",
                    )
                case unknown:
                    assert_never(unknown)


def _is_ending(run: Run) -> bool:
    return processes.is_running(run.keeper) or processes.is_running(run.warden)


def replica_end(exit_: Exit) -> ReplicaEnd:
    """An exit as the runtime tells it."""
    message = ""
    if exit_.code is None and exit_.signal is None:
        message = "ended; who started it took its exit code"
    wall = time.time() - (time.monotonic() - exit_.at)
    end = End(code=exit_.code, signal=exit_.signal, message=message, wall=wall)
    return ReplicaEnd(exit_.key, end, exit_.left_behind)
