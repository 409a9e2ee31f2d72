"""The life of one stack's engine: open (or adopt what runs), apply stack files, end.

up ─▶ open: keeper, snapshot, adoption ─▶ apply ─▶ … ─▶ down ─▶ keeper ends, wishes forgotten

A stack comes from whoever runs `up`, who read the file. The keeper holds it (in memory: it has secrets)
for the controller that it starts when this one is lost, which so takes over what was applied, whatever
has become of the files meanwhile.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from devstack.bootstrap.interpreter import cache_folder, module_command
from devstack.core import events as e
from devstack.core.blame import refusal
from devstack.core.model import SourceProgram, Stack
from devstack.core.ops import Plan
from devstack.core.plain import from_plain, to_plain
from devstack.core.state import State
from devstack.core.tell import Line, Tone, tell
from devstack.engine import identity as identities
from devstack.engine.adoption import Adoption
from devstack.engine.assembly import Engine, assemble
from devstack.engine.board import Board
from devstack.engine.controller import Controller
from devstack.engine.folders import Folders, read_jobs, write_jobs
from devstack.engine.history import History
from devstack.engine.snapshot import Snapshot
from devstack.engine.tidying import discard_unused
from devstack.keeper.client import KeeperClient
from devstack.keeper.errors import KeeperRefused, KeeperUnreachable
from devstack.keeper.marks import boot_id
from devstack.keeper.places import Places
from devstack.keeper.requests import Command
from devstack.keeper.starting import Starting
from devstack.provision.tool import Settings


class Session:
    """One stack while a controller looks after it."""

    def __init__(
        self,
        places: Places,
        stack_file: Path,
        *,
        open_files: int | None,
        starting: Starting | None = None,
    ) -> None:
        self.places = places
        self.file = stack_file
        self.folders = Folders.of(stack_file)
        self.board = Board()
        self.environment: dict[str, str] = {}
        self.stack: Stack | None = None
        self.opened = asyncio.Event()
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.is_detached = True
        self._open_files = open_files
        self._starting = starting
        self._leaving = False
        self._errands: asyncio.TaskGroup | None = None
        self._offline = False
        self._is_news = asyncio.Event()
        """Something changed that the keeper holds for the next controller."""
        self._engine: Engine | None = None
        self._adoption: Adoption | None = None
        self._found_keeper = False
        """The keeper was there before this controller, with whatever it runs."""
        self._is_asked_for = False
        """What runs is adopted because a person ran `up`, not because its controller was lost."""
        self.snapshot = Snapshot(self.folders.snapshot, boot_id())
        self.history = History(self.folders.history, boot_id())
        self._jobs: dict[str, list[str]] = {}
        """Jobs that completed, as they are written."""
        self._cannot_keep = False
        self.controller: Controller | None = None

    # ── what is asked often ───────────────────────────────────────────────────────────────────

    @property
    def engine(self) -> Engine:
        assert self._engine is not None, "the engine is used before the stack was opened"
        return self._engine

    @property
    def is_open(self) -> bool:
        return self._engine is not None

    @property
    def state(self) -> State:
        return self.controller.state if self.controller is not None else State()

    @property
    def plan(self) -> Plan:
        return self.controller.plan if self.controller is not None else Plan()

    def post(self, event: e.Event) -> None:
        """Add a fact."""
        assert self.controller is not None
        self.controller.post(event)

    # ── opening ───────────────────────────────────────────────────────────────────────────────

    async def open(
        self, environment: Mapping[str, str], *, offline: bool, may_start: bool = True
    ) -> None:
        """Connect to the keeper, start one where there is none and that is wanted.

        Raises `KeeperUnreachable`, `ProtocolMismatch`, OSError.
        """
        self.board.open()
        self.folders.make()
        self.environment = dict(environment)
        engine = assemble(
            self.places,
            self.folders,
            self.file,
            settings_of(environment, offline=offline),
            self.board,
            open_files=self._open_files,
            starting=self._starting,
            notice=self._notice,
            state=lambda: self.state,
        )
        engine.link.on_open = self._greet_keeper
        engine.link.on_lost = self._keeper_lost
        engine.link.on_found = self._keeper_found
        was_there = await engine.link.open(may_start=may_start)
        self._found_keeper = was_there
        self._is_asked_for = was_there and may_start
        engine.book.names = engine.link.client.capabilities.hosts and sys.platform == "linux"
        self._engine = engine
        self.controller = Controller(
            engine.operations, on_event=self._on_event, on_settled=self._on_settled
        )
        if was_there:
            engine.book.recall()
        self.opened.set()

    def inherit(self, legacy: "Legacy") -> None:
        """What an earlier controller left is left on, should this one be lost before it has begun."""
        self.stack, self._offline = legacy.stack, legacy.offline

    async def abandon(self) -> None:
        """End the keeper that was started for an `up` which came to nothing; another one's goes on."""
        if (
            self.is_open
            and not self.began.is_set()
            and not self._leaving
            and not self._found_keeper
        ):
            with contextlib.suppress(KeeperUnreachable, KeeperRefused):
                await self.engine.link.client.shutdown()

    async def _greet_keeper(self, client: KeeperClient) -> None:
        """Tell a keeper what to do when this controller is lost.

        Nothing before there is a stack: a new keeper ends with us, and to one that was there an earlier
        controller has left what the next one needs. Once the stack is on its way down it ends without
        us too: a next controller would start it again.
        """
        if self.stack is None:
            return
        if self.is_detached and not self.state.closing:
            await client.mode("detached", self._respawn())
        else:
            await client.mode("attached")

    def _respawn(self) -> Command:
        argv = (*module_command("devstack.controller"), "--file", str(self.file), "--adopt")
        return Command(
            argv=argv,
            env=self.environment,
            cwd=str(self.file.parent),
            output=self.places.controller_log,
            given=self._legacy(),
        )

    def _legacy(self) -> str:
        """What `Legacy.of` reads in the next controller."""
        stack = to_plain(self.stack) if self.stack is not None else None
        return json.dumps({"stack": stack, "offline": self._offline})

    async def set_detached(self, detached: bool) -> None:
        """Whether the stack outlives this controller and every client."""
        self.is_detached = detached
        if self.is_open:
            with contextlib.suppress(KeeperUnreachable, KeeperRefused):
                await self._greet_keeper(self.engine.link.client)

    # ── applying ──────────────────────────────────────────────────────────────────────────────

    async def apply(
        self,
        stack: Stack,
        environment: Mapping[str, str],
        *,
        offline: bool,
        is_legacy: bool = False,
    ) -> bool:
        """Make a stack the wanted one; the first time also take over what runs.

        Returns when State has it; False where the stack began to close meanwhile, and nothing was
        changed. `is_legacy`: an earlier controller had applied it, so its sources are what they were then.
        """
        engine = self.engine
        is_first = not self.began.is_set()
        known = self._recall_services() if is_first else ()
        sources = await self._digest_sources(stack, self.snapshot.sources if is_legacy else {})
        if self.state.closing:
            return False
        # from here to the event nothing is awaited: a probe must not find addresses of one stack
        # and definitions of another
        self.environment = dict(environment)
        self._offline = offline
        engine.use_settings(settings_of(environment, offline=offline))
        engine.surroundings.environment = self.environment
        engine.book.assign(stack)
        engine.surroundings.stack = stack
        with contextlib.suppress(OSError):  # told, and tried again, whenever this settles
            identities.save(engine.identity, self.folders.identity)
        self.stack = stack
        self._is_news.set()
        self.post(e.StackApplied(stack, sources))
        if is_first:
            self._recall_jobs(stack)
            assert self.controller is not None
            self._adoption = Adoption(engine, self.controller, self.do)
            await self._adoption.begin(stack, known, is_asked_for=self._is_asked_for)
        await engine.runtime.renew_names()
        self.began.set()
        # whoever waits next must not find the stack as it was before, and so settled
        assert self.controller is not None
        await self.controller.until(lambda state: state.stack is stack or bool(state.closing))
        return True

    def _recall_services(self) -> tuple[e.Restored, ...]:
        self.history.read()
        return self.snapshot.read(self.engine.link.run_id)

    async def _digest_sources(
        self, stack: Stack, known: Mapping[str, str]
    ) -> tuple[tuple[str, str], ...]:
        """The digest of each source now; those that are known are not looked at."""
        named = [n for n, s in stack.services.items() if isinstance(s.program, SourceProgram)]
        names = [name for name in named if name not in known]
        digests = await asyncio.gather(
            *(self.engine.sources.source_digest(stack.services[name]) for name in names)
        )
        found = {**known, **dict(zip(names, digests, strict=True))}
        return tuple((name, found[name]) for name in named)

    def _recall_jobs(self, stack: Stack) -> None:
        for name, keys in read_jobs(self.folders.jobs).items():
            if name in stack.services:
                self._jobs[name] = sorted(keys)
                self.post(e.JobRecalled(name, tuple(keys)))

    # ── living ────────────────────────────────────────────────────────────────────────────────

    async def live(self) -> None:
        """Look after the stack from its first `apply` to its end, with what is done beside that."""
        async with asyncio.TaskGroup() as errands:
            self._errands = errands
            await self._look_after()

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the rest; what it raises is a bug and ends the controller."""
        if self._errands is None or self.ended.is_set():
            work.close()  # there is nothing to do it for
        else:
            self._errands.create_task(work)

    async def _look_after(self) -> None:
        await self.opened.wait()
        assert self.controller is not None
        try:
            async with asyncio.TaskGroup() as tasks:
                # adoption runs steps already, so exits are sorted before the stack has begun
                serving = tasks.create_task(self.engine.link.serve())
                await self.began.wait()
                tending = tasks.create_task(self.engine.nginx.tend())
                assert self._adoption is not None
                adopting = tasks.create_task(self._adoption.finish())
                telling = tasks.create_task(self._tell_the_keeper())
                tidying = tasks.create_task(discard_unused(self.controller, self.engine.sources))
                await self.controller.run()
                for task in (serving, adopting, telling, tending, tidying):
                    task.cancel()
            with contextlib.suppress(KeeperUnreachable, KeeperRefused):
                await self.engine.link.client.shutdown()
            self.snapshot.forget()
            self.history.forget()
        finally:
            self.board.close()
            self.ended.set()

    async def _tell_the_keeper(self) -> None:
        """Leave with the keeper, for ever, what a next controller has to know."""
        while True:
            await self._is_news.wait()
            self._is_news.clear()
            with contextlib.suppress(KeeperUnreachable, KeeperRefused):
                await self._greet_keeper(self.engine.link.client)

    async def leave(self) -> None:
        """End this controller and leave everything running for the next one."""
        if self.is_open:
            with contextlib.suppress(KeeperUnreachable, KeeperRefused):
                await self.engine.link.client.mode("detached", None)
        self._leaving = True
        self.ended.set()

    # ── watching ──────────────────────────────────────────────────────────────────────────────

    def _on_event(self, before: State, event: e.Event, after: State) -> None:
        line = tell(before, event, after)
        if line is not None:
            self.history.add(line, time.time())
            self.board.tell(line)
        if isinstance(event, e.DownRequested):
            self._is_news.set()

    def _on_settled(self, state: State, plan: Plan) -> None:
        """Write what the next controller needs; where that cannot be done the stack goes on without.

        A full disk, or somebody who cleans the checkout: told once, tried again whenever this settles.
        """
        del plan
        if not self.is_open:
            return
        try:
            self._keep(state)
        except OSError as error:
            if not self._cannot_keep:
                self._cannot_keep = True
                text = f"cannot write {refusal(error)}"
                self.post(e.Noted(f"{text}; the next controller would not know what this one does"))
        else:
            self._cannot_keep = False

    def _keep(self, state: State) -> None:
        engine, folders = self.engine, self.folders
        if not folders.state.is_dir():
            if not self.file.parent.is_dir():
                return  # the whole checkout is gone: what runs is ended by its id
            folders.make()
            self._jobs = {}
            self.snapshot.forget()
            self.history.is_gone()
            engine.identity.saved = engine.book.saved = ""
        identities.save(engine.identity, folders.identity)
        engine.book.save()
        completed = {n: sorted(s.completed) for n, s in state.services.items() if s.completed}
        if completed != self._jobs:
            write_jobs(folders.jobs, completed)
            self._jobs = completed
        if state.closing:
            self.snapshot.forget()  # nobody follows a controller that is lost on the way down
            return
        self.snapshot.write(state, engine.link.run_id)
        for runtime in engine.operations.replicas.values():
            runtime.acknowledge()
        self.history.write()

    def _notice(self, service: str, text: str) -> None:
        if self.controller is not None:
            self.post(e.Noted(text, service or None))

    def _keeper_lost(self, reason: str) -> None:
        self.post(e.RuntimeLost("process", reason))

    def _keeper_found(self) -> None:
        self.post(e.RuntimeFound("process"))

    def tell(self, text: str, tone: Tone = Tone.INFO) -> None:
        """Tell whoever follows one line about the whole stack."""
        self.board.tell(Line(None, text, tone))


@dataclass(frozen=True, slots=True)
class Legacy:
    """What a controller that was lost left for the next one, beyond the snapshot."""

    stack: Stack
    offline: bool

    @classmethod
    def of(cls, text: str) -> Self:
        """Raises ValueError for what no controller of this version left."""
        raw = json.loads(text)
        if not isinstance(raw, dict) or not isinstance(raw.get("offline"), bool):
            raise ValueError("it is nothing that a controller left")
        return cls(from_plain(raw.get("stack"), Stack), raw["offline"])


def settings_of(environment: Mapping[str, str], *, offline: bool) -> Settings:
    """Where provisioning looks, by the environment of whoever ran `up`."""
    return Settings(
        cache=cache_folder(environment),
        offline=offline,
        path=environment.get("PATH", os.defpath),
        environment=environment,
    )
