"""The controller: the one writer of State.

Facts arrive in an inbox; each is recorded (journal, then `reduce`), then `reconcile` is asked until its
plan is dry. Ops run as tasks of one group, each after its intent was recorded; what becomes of them are
facts again. An exception that escapes a task is a bug and ends the controller loudly.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from devstack.core.events import Event
from devstack.core.ops import Plan, intent_of
from devstack.core.reconcile import reconcile
from devstack.core.reduce import reduce
from devstack.core.state import State
from devstack.engine.journal import Journal
from devstack.engine.operations import Operations

log = logging.getLogger("devstack.controller")

MAX_ROUNDS = 200
"""Rounds of reconcile after one batch of events; more means that two rules undo each other."""


class NotSettled(Exception):
    """Reconcile went on planning: a bug in a rule."""


class Controller:
    """See the module's docstring."""

    def __init__(
        self,
        operations: Operations,
        *,
        state: State | None = None,
        journal: Journal | None = None,
        on_event: Callable[[State, Event, State], None] | None = None,
        on_settled: Callable[[State, Plan], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = state if state is not None else State()
        self.plan = Plan()
        self.journal = journal if journal is not None else Journal()
        self._operations = operations
        self._on_event = on_event
        self._on_settled = on_settled
        self._clock = clock
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._running: set[asyncio.Task[None]] = set()

    def post(self, event: Event) -> None:
        """Add a fact; it is stamped with the time and takes effect in the order of posting."""
        self._inbox.put_nowait(replace(event, at=self._clock()))

    async def run(self) -> None:
        """Work until the stack is closing and nothing of it is left."""
        async with asyncio.TaskGroup() as tasks:
            background = tasks.create_task(self._operations.listen(self.post))
            try:
                while not (self.state.closing and self.state.is_empty and self._inbox.empty()):
                    await self._next_batch()
                    self._settle(tasks)
            finally:
                background.cancel()
                for op in self._running:
                    op.cancel()  # nobody waits for it any more

    async def until(self, is_so: Callable[[State], bool]) -> State:
        """Wait until something is so of the State; returns that State."""
        while not is_so(self.state):
            await self.journal.wait_after(self.journal.last)
        return self.state

    async def _next_batch(self) -> None:
        """Wait for an event or for `wake_at`, then record all that has arrived."""
        timeout = None
        if self.plan.wake_at is not None:
            timeout = max(0.0, self.plan.wake_at - self._clock())
        try:
            async with asyncio.timeout(timeout):
                self._record(await self._inbox.get())
        except TimeoutError:
            return
        while not self._inbox.empty():
            self._record(self._inbox.get_nowait())

    def _record(self, event: Event) -> None:
        before = self.state
        self.state = reduce(before, event)
        self.journal.append(event, time.time())
        if self._on_event is not None:
            self._on_event(before, event, self.state)

    def _settle(self, tasks: asyncio.TaskGroup) -> None:
        """Reconcile until dry; every op's intent is recorded before it runs (laws 1 and 2)."""
        for _ in range(MAX_ROUNDS):
            self.plan = reconcile(self.state, self._clock())
            if not self.plan.ops:
                if self._on_settled is not None:
                    self._on_settled(self.state, self.plan)
                return
            for op in self.plan.ops:
                log.debug("%s", op)
                self._record(intent_of(op, self._clock()))
                running = tasks.create_task(self._operations.run(op, self.state, self.post))
                self._running.add(running)
                running.add_done_callback(self._running.discard)
        raise NotSettled(f"reconcile still plans after {MAX_ROUNDS} rounds: {self.plan.ops}")
