"""What is done about each request: calls of the engine, turned into lines, listings and streams.

One table of names and methods. Services are looked up here, so that the engine is never asked about
one that does not exist. The socket and the connections are `server`.
"""

import asyncio
import difflib
import json
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from devstack.api import listings, render
from devstack.api.control import Control, Outcome, Told, UpRequest
from devstack.api.feed import Feed
from devstack.api.requests import BadRequest, Request
from devstack.api.text import printable
from devstack.core.model import GATEWAY, Kind, Stack
from devstack.core.state import Phase

USUAL_TIMEOUT_SECONDS: Final = 300.0
_TELL_EVERY_SECONDS: Final = 0.25

Handler = Callable[["Answers", Request], Awaitable[Outcome]]


class Answers:
    """Answers requests of all connections; knows who holds the lease."""

    def __init__(
        self,
        control: Control,
        *,
        takes_over: bool,
        on_applied: Callable[[], None] = lambda: None,
    ) -> None:
        self.control = control
        self._takes_over = takes_over
        """A keeper was there before this controller: what runs is nobody's to end by leaving."""
        self._on_applied = on_applied
        self.closing = asyncio.Event()
        """The controller is ending: streams and waits end too."""
        self.lessee: object | None = None
        self.is_leaving = False
        self._ups = 0
        self._feeds: set[Feed] = set()
        self._removing: set[asyncio.Future[Outcome]] = set()

    async def data_removed(self) -> None:
        """Wait for each `down --volumes`: it goes on when the stack has ended, and takes its time."""
        if self._removing:
            await asyncio.wait(self._removing)

    def close(self) -> None:
        """Let everything that waits or streams come to its end."""
        self.closing.set()
        for feed in self._feeds:
            feed.finish()

    async def answer(self, request: Request) -> Outcome:
        """Do what is asked; BadRequest for what cannot be understood."""
        known = TABLE.get(request.do)
        if known is None:
            raise BadRequest(f"there is no request '{request.do}'")
        return await known.handler(self, request)

    # ── the life of the stack ─────────────────────────────────────────────────────────────────

    async def up(self, request: Request) -> Outcome:
        stack = request.value("stack", Stack)
        environment = request.texts("environment")
        offline, lease = request.flag("offline"), request.flag("lease")
        is_first = not (self._takes_over or self.lessee or self._ups or self.control.state.stack)
        self._ups += 1
        try:
            if lease and is_first:
                self._take_lease(request)
            elif not lease and self.lessee is None:
                self.control.detach()
            await request.tell(
                {"lease": request.lessee.holds_lease, "logs": os.fspath(self.control.logs)}
            )
            outcome = await self.control.up(UpRequest(stack, environment, offline))
        finally:
            self._ups -= 1
        if outcome.ok:
            self._on_applied()
            return outcome
        if self.control.state.stack is None and self._ups == 0:
            # nothing was ever started: no reason to stay
            request.lessee.asked_to_end = True
            await self.control.down(volumes=False)
        return outcome

    async def lease(self, request: Request) -> Outcome:
        """An attached `up` whose controller was replaced takes its lease again."""
        if self.lessee is not None:
            return Outcome(1, ("cannot take the lease: another devstack up holds it",))
        self._take_lease(request)
        return Outcome()

    def _take_lease(self, request: Request) -> None:
        self.lessee = request.lessee
        request.lessee.holds_lease = True
        self.control.hold_lease()

    async def down(self, request: Request) -> Outcome:
        request.lessee.asked_to_end = True
        volumes = request.flag("volumes")
        stopping = asyncio.ensure_future(self.control.down(volumes=volumes))
        if volumes:
            self._removing.add(stopping)
        seen: dict[str, float] = {}
        last: object = None
        try:
            while not stopping.done():
                await asyncio.wait({stopping}, timeout=_TELL_EVERY_SECONDS)
                left = self._left(seen)
                if left != last and not stopping.done():
                    last = left
                    await request.tell({"stopping": left})
            return stopping.result()
        finally:
            self._removing.discard(stopping)
            stopping.cancel()

    def _left(self, seen: dict[str, float]) -> list[list[object]]:
        """What still runs, with the seconds until it is killed where it was asked to end."""
        left: list[list[object]] = []
        now = time.monotonic()
        for replica in self.control.state.replicas.values():
            service = self.control.state.definition(replica.service)
            seconds: int | None = None
            if replica.phase is Phase.STOPPING and service is not None:
                since = now - seen.setdefault(replica.id, now)
                seconds = max(0, round(service.stop.grace_seconds - since))
            left.append([replica.id, seconds])
        return left

    async def kill(self, request: Request) -> Outcome:
        request.lessee.asked_to_end = True
        self.control.kill_all()
        return Outcome()

    async def leave(self, _: Request) -> Outcome:
        self.is_leaving = True
        self.control.leave()
        return Outcome()

    async def ping(self, _: Request) -> Outcome:
        """A sign of life."""
        return Outcome()

    # ── waiting and watching ──────────────────────────────────────────────────────────────────

    async def wait(self, request: Request) -> Outcome:
        """Until all is ready or something failed for good; tells meanwhile how far it is."""
        seconds = request.seconds("timeout", USUAL_TIMEOUT_SECONDS)
        if self.control.state.stack is None:
            return Outcome(1, ("cannot wait: nothing was started yet",))
        last: object = None

        async def tell() -> None:
            nonlocal last
            counts = listings.counts(self.control)
            if counts != last:
                last = counts
                await request.tell({"counts": counts})

        outcome = await self._while_open(self.control.wait_settled(seconds), tell)
        await tell()
        status = listings.status(self.control)
        summary: dict[str, Any] = {
            "stack": status["stack"],
            "is_closing": bool(self.control.state.closing),
            # where it does not serve, somebody else may be the one who answers there
            "gateway": status["gateway"] if self.control.state.is_ready(GATEWAY) else None,
            "notes": list(self.control.notes()),
            "stopped": [
                name
                for name in self.control.state.names()
                if self.control.state.override(name).stopped
            ],
            "warnings": [
                f"{service['name']}: {warning}"
                for service in status["services"]
                for warning in service["warnings"]
            ],
        }
        await request.tell({"summary": summary})
        return outcome

    async def follow(self, request: Request) -> Outcome:
        feed = Feed()
        self._feeds.add(feed)
        if self.closing.is_set():
            feed.finish()
        pump = asyncio.ensure_future(self._pump(feed, None))
        try:
            while (told := await feed.get()) is not None:
                await request.tell({"told": _told(told)})
            return Outcome()
        finally:
            self._feeds.discard(feed)
            await _end(pump)

    async def _pump(self, feed: Feed, service: str | None) -> None:
        try:
            async for told in self.control.follow():
                if service is None or told.service == service:
                    feed.put(told)
        finally:
            feed.finish()

    async def _while_open(
        self,
        work: Coroutine[Any, Any, Outcome],
        tell: Callable[[], Awaitable[None]] | None = None,
    ) -> Outcome:
        """The outcome of some waiting, unless the controller ends before it."""
        waiting = asyncio.ensure_future(work)
        closing = asyncio.ensure_future(self.closing.wait())
        try:
            while not waiting.done() and not closing.done():
                await asyncio.wait(
                    {waiting, closing},
                    timeout=_TELL_EVERY_SECONDS if tell else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if tell is not None and not waiting.done():
                    await tell()
            if waiting.done():
                return waiting.result()
            reason = "another devstack took over" if self.is_leaving else "the stack was stopped"
            return Outcome(1, (f"cannot wait any longer: {reason}",))
        finally:
            await _end(closing)
            await _end(waiting)

    # ── single services ───────────────────────────────────────────────────────────────────────

    async def scale(self, request: Request) -> Outcome:
        service, replicas = request.text("service"), request.count("replicas")
        wait, seconds = self._waiting(request)
        return await self._about(
            request,
            service,
            lambda: self.control.scale(service, replicas, wait=wait, timeout_seconds=seconds),
        )

    async def restart(self, request: Request) -> Outcome:
        service = request.text("service")
        wait, seconds = self._waiting(request)
        return await self._about(
            request,
            service,
            lambda: self.control.restart(service, wait=wait, timeout_seconds=seconds),
        )

    async def stop(self, request: Request) -> Outcome:
        service = request.text("service")
        wait, seconds = self._waiting(request)
        return await self._about(
            request, service, lambda: self.control.stop(service, wait=wait, timeout_seconds=seconds)
        )

    async def start(self, request: Request) -> Outcome:
        service = request.text("service")
        wait, seconds = self._waiting(request)
        return await self._about(
            request,
            service,
            lambda: self.control.start(service, wait=wait, timeout_seconds=seconds),
        )

    async def reset(self, request: Request) -> Outcome:
        service = request.text("service")
        seconds = request.seconds("timeout", USUAL_TIMEOUT_SECONDS)
        return self._no_database(service) or await self._about(
            request, service, lambda: self.control.reset(service, timeout_seconds=seconds)
        )

    async def may_reset(self, request: Request) -> Outcome:
        """Whether `reset` would be refused: asked before a person is asked for a yes."""
        return self._no_database(request.text("service")) or Outcome()

    def _no_database(self, name: str) -> Outcome | None:
        """What to say about a service that has no data to drop."""
        definition = self.control.state.definition(name)
        if definition is None or definition.kind is Kind.DATABASE:
            return self._unknown(name)
        return Outcome(
            2,
            (
                f"cannot reset {name}: it is a {definition.kind.value}, not a database",
                f"hint: devstack restart {name} replaces its replicas",
            ),
        )

    def _waiting(self, request: Request) -> tuple[bool, float]:
        return not request.flag("no_wait"), request.seconds("timeout", USUAL_TIMEOUT_SECONDS)

    async def _about(
        self, request: Request, service: str, work: Callable[[], Coroutine[Any, Any, Outcome]]
    ) -> Outcome:
        """Do something with a service and tell meanwhile what happens to it."""
        unknown = self._unknown(service)
        if unknown is not None:
            return unknown
        feed = Feed()
        self._feeds.add(feed)
        pump = asyncio.ensure_future(self._pump(feed, service))
        teller = asyncio.ensure_future(_tell_all(feed, request))
        try:
            await asyncio.sleep(0)  # the pump listens before anything happens
            return await self._while_open(work())
        finally:
            self._feeds.discard(feed)
            await _end(pump)
            await _end(teller)

    def _unknown(self, service: str) -> Outcome | None:
        """What to say about a service that the stack does not have."""
        state = self.control.state
        if state.definition(service) is not None:
            return None
        known = list(state.names())
        nearest = difflib.get_close_matches(service, known, n=1)
        meant = f" (did you mean '{nearest[0]}'?)" if nearest else ""
        if not known:
            return Outcome(2, (f"there is no service '{service}': nothing was started yet",))
        return Outcome(
            2, (f"there is no service '{service}'{meant}", f"hint: there are {', '.join(known)}")
        )

    # ── listings ──────────────────────────────────────────────────────────────────────────────

    async def status(self, request: Request) -> Outcome:
        listing = listings.status(self.control)
        if request.flag("json"):
            return _json(listing)
        colour = request.flag("colour")
        return Outcome(0, tuple(render.status_lines(listing, time.time(), colour=colour)))

    async def endpoints(self, request: Request) -> Outcome:
        listing = listings.endpoints(self.control)
        if request.flag("json"):
            return _json(listing)
        return Outcome(0, tuple(render.endpoint_lines(listing, colour=request.flag("colour"))))

    async def env(self, request: Request) -> Outcome:
        service = request.text("service")
        unknown = self._unknown(service)
        if unknown is not None:
            return unknown
        listing = listings.environment(self.control, service)
        if request.flag("json"):
            return _json(listing)
        return Outcome(0, tuple(render.environment_lines(listing, colour=request.flag("colour"))))

    async def why(self, request: Request) -> Outcome:
        service = request.text("service")
        unknown = self._unknown(service)
        if unknown is not None:
            return unknown
        listing = listings.why(self.control, service)
        if request.flag("json"):
            return _json(listing)
        return Outcome(0, tuple(printable(line) for line in listing["lines"]))


@dataclass(frozen=True, slots=True)
class Known:
    """How a request is handled."""

    handler: Handler
    is_finished: bool = False
    """It goes on to its end when its client is gone."""


TABLE: Final[Mapping[str, Known]] = {
    "up": Known(Answers.up, is_finished=True),
    "lease": Known(Answers.lease),
    "down": Known(Answers.down, is_finished=True),
    "kill": Known(Answers.kill),
    "leave": Known(Answers.leave, is_finished=True),
    "ping": Known(Answers.ping),
    "wait": Known(Answers.wait),
    "follow": Known(Answers.follow),
    "scale": Known(Answers.scale),
    "restart": Known(Answers.restart),
    "stop": Known(Answers.stop),
    "start": Known(Answers.start),
    "reset": Known(Answers.reset, is_finished=True),
    "may-reset": Known(Answers.may_reset),
    "status": Known(Answers.status),
    "endpoints": Known(Answers.endpoints),
    "env": Known(Answers.env),
    "why": Known(Answers.why),
}


async def _tell_all(feed: Feed, request: Request) -> None:
    while (told := await feed.get()) is not None:
        await request.tell({"told": _told(told)})


def _told(told: Told) -> dict[str, object]:
    progress = told.progress
    return {
        "service": told.service,
        "text": told.text,
        "kind": told.kind,
        "progress": None
        if progress is None
        else {
            "title": progress.title,
            "done": progress.done,
            "total": progress.total,
            "unit": progress.unit,
        },
    }


def _json(listing: Mapping[str, Any]) -> Outcome:
    return Outcome(0, (json.dumps(listing, indent=2, ensure_ascii=False),))


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel a task of ours and see it ended; what it raised passes through."""
    if not task.done():
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
