"""The engine as the control socket sees it: what people ask for, turned into events and waited for."""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from devstack.api.control import EnvLine, Outcome, Told, UpRequest
from devstack.api.ownership import write_hint
from devstack.core import events as e
from devstack.core import policy
from devstack.core.blame import refusal
from devstack.core.env import masked
from devstack.core.model import Kind, RuntimeName
from devstack.core.ops import Plan
from devstack.core.outcome import (
    dependency_failure,
    is_current,
    is_down,
    is_scaled,
    is_settled,
    scale_failure,
    update_failure,
)
from devstack.core.state import State
from devstack.core.view import failures_for_good, sentence, service_view, service_views
from devstack.engine.addresses import Consumer
from devstack.engine.session import Session
from devstack.engine.waiting import wait_until
from devstack.engine.why import explain, lately
from devstack.engines.placement import remove_data, unprivileged_root
from devstack.keeper.errors import KeeperRefused, KeeperUnreachable, ProtocolMismatch
from devstack.runtimes.base import RuntimeUnavailable
from devstack.runtimes.process.programs import CannotLaunch

PATIENCE_SECONDS = 1.0
"""A command that waits for another service in vain: perhaps one beside it is about to start that."""


class StackControl:
    """See the module's docstring; implements `api.control.Control`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._up = asyncio.Lock()

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def plan(self) -> Plan:
        return self._session.plan

    @property
    def now(self) -> float:
        return time.monotonic()

    @property
    def logs(self) -> Path:
        return self._session.folders.logs

    def gateway_url(self) -> str | None:
        """See `Control.gateway_url`."""
        return self._session.engine.book.gateway_url() if self._session.is_open else None

    def url(self, service: str) -> str | None:
        """See `Control.url`; a database's without user and password."""
        if not self._session.is_open or not self.state.is_listed(service):
            return None
        definition = self.state.definition(service)
        book = self._session.engine.book
        url = book.url(service, Consumer.HOST)
        if url is None or definition is None or "@" not in url:
            return url
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    def notes(self) -> tuple[str, ...]:
        """See `Control.notes`."""
        if not self._session.is_open:
            return ()
        engine = self._session.engine
        told = engine.link.client.capabilities
        found: list[str] = []
        if engine.book.names:
            found.append(f"names: every service by its own name ({told.hosts_how})")
        else:
            found.append(f"names: none, services are at 127.0.0.1 ({told.hosts_how})")
        if os.geteuid() == 0:
            servers = told.unprivileged
            found.append(f"running as root: servers that refuse root use: {servers}")
        return (*found, *engine.book.problems)

    def why(self, service: str) -> tuple[str, ...]:
        """See `Control.why`."""
        told = lately(self._session.history.lines(), service)
        return (*explain(self.state, self.plan, service, self.now), *told)

    def env(self, service: str) -> tuple[EnvLine, ...]:
        """See `Control.env`: as the replica in slot 1 has it, or would have it."""
        definition = self.state.definition(service)
        if definition is None or not self._session.is_open:
            return ()
        engine = self._session.engine
        running = next((r.id for r in self.state.replicas_of(service) if r.is_current), None)
        ports = dict(engine.runtime.ports_of(running)) if running is not None else {}
        if not ports:
            ports = engine.book.usual_ports(definition)
        known = self.state.replicas.get(running or "")
        revision = known.revision if known is not None else self.state.of(service).desired or ""
        try:
            if definition.runtime is RuntimeName.PROCESS:
                variables = engine.runtime.variables(definition, revision, ports)
            else:
                variables = engine.surroundings.variables(definition, ports)
        except CannotLaunch as error:
            return (EnvLine("", str(error), "error", ()),)
        return tuple(EnvLine(v.name, masked(v), v.origin, v.overrides) for v in variables)

    async def follow(self) -> AsyncIterator[Told]:
        """See `Control.follow`."""
        async for told in self._session.board.follow():
            yield told

    # ── up and down ───────────────────────────────────────────────────────────────────────────

    async def up(self, request: UpRequest) -> Outcome:
        """See `Control.up`."""
        return await self._up_with(request, is_legacy=False)

    async def adopt(self, request: UpRequest) -> Outcome:
        """Take over a stack as an earlier controller had applied it, where a keeper still runs it."""
        return await self._up_with(request, is_legacy=True)

    async def _up_with(self, request: UpRequest, *, is_legacy: bool) -> Outcome:
        session = self._session
        stopping = Outcome(1, ("cannot start: the stack is stopping", "hint: try again"))
        async with self._up:
            if self.state.closing or session.ended.is_set():
                return stopping
            if request.stack.file != str(session.file):
                return Outcome(2, (f"cannot start {request.stack.file}: this is {session.file}",))
            try:
                if not session.is_open:
                    await session.open(
                        request.environment, offline=request.offline, may_start=not is_legacy
                    )
                applied = await session.apply(
                    request.stack,
                    request.environment,
                    offline=request.offline,
                    is_legacy=is_legacy,
                )
            except ProtocolMismatch as error:
                return Outcome(1, (str(error), "hint: devstack down, then devstack up"))
            except (KeeperUnreachable, KeeperRefused, RuntimeUnavailable) as error:
                return Outcome(1, (f"cannot start the stack: {error}",))
            except OSError as error:
                hint = write_hint(error, str(session.file))
                hints = (f"hint: {hint}",) if hint else ()
                return Outcome(1, (f"cannot start the stack: {refusal(error)}", *hints))
            return Outcome() if applied else stopping

    async def wait_settled(self, timeout_seconds: float) -> Outcome:
        """See `Control.wait_settled`."""
        return await wait_until(
            self._session,
            lambda state: is_settled(state, self.now),
            lambda state, now: tuple(
                f"{name}: {reason}" for name, reason in failures_for_good(state, self.plan, now)
            ),
            lambda state, now: (
                f"not ready after {timeout_seconds:g} s:",
                *self._unready(state, now),
            ),
            timeout_seconds,
        )

    def _unready(self, state: State, now: float) -> list[str]:
        return [
            sentence(view.name, view.word, view.reason)
            for view in service_views(state, self.plan, now)
            if not view.word.is_settled
        ]

    async def down(self, *, volumes: bool) -> Outcome:
        """See `Control.down`."""
        session = self._session
        if not await self._has_begun():
            session.ended.set()
            return Outcome(0, ("nothing was running",))
        count = len({r.service for r in self.state.replicas.values()})
        if not self.state.closing:
            session.post(e.DownRequested("down"))
        await session.ended.wait()
        lines = [f"stopped {count} {'service' if count == 1 else 'services'}"]
        if volumes:
            try:
                lines += await asyncio.to_thread(self._remove_volumes)
            except OSError as error:
                hint = "hint: see who owns that; devstack down --volumes goes on from there"
                return Outcome(1, (*lines, f"cannot remove data: {refusal(error)}", hint))
        return Outcome(0, tuple(lines))

    async def _has_begun(self) -> bool:
        """Whether there is a stack to end; an `up` that is under way is seen to its end first."""
        if not self._session.began.is_set():
            async with self._up:
                pass
        return self._session.began.is_set()

    def _remove_volumes(self) -> list[str]:
        folder = self._session.folders.data
        removed = []
        for data in sorted(folder.iterdir()) if folder.is_dir() else ():
            if data.is_dir() or data.is_symlink():
                remove_data(data)
                removed.append(f"removed {data}")
            else:
                data.unlink()
        root = unprivileged_root(self._session.places.stack_id)
        if root.exists():
            shutil.rmtree(root, ignore_errors=True)
            removed.append(f"removed {root}")
        return removed

    def leave(self) -> None:
        """See `Control.leave`."""
        self._session.do(self._session.leave())

    def kill_all(self) -> None:
        """See `Control.kill_all`."""
        if not self._session.began.is_set():
            self._session.ended.set()  # its keeper ends whatever there is
            return
        if not self.state.closing:
            self._session.post(e.DownRequested("killed"))
        self._session.do(self._kill_all())

    async def _kill_all(self) -> None:
        for replica in list(self.state.replicas):
            with contextlib.suppress(KeeperUnreachable, KeeperRefused):
                await self._session.engine.link.client.kill(replica)

    # ── leases ────────────────────────────────────────────────────────────────────────────────

    def hold_lease(self) -> None:
        """See `Control.hold_lease`."""
        self._session.is_detached = False
        self._session.do(self._session.set_detached(False))

    def release_lease(self, *, lost: bool) -> None:
        """See `Control.release_lease`."""
        cause = "the terminal that held the stack is gone" if lost else "interrupted"
        self._session.do(self._release(cause))

    async def _release(self, cause: str) -> None:
        if not await self._has_begun():
            self._session.ended.set()
        elif not self.state.closing:
            self._session.post(e.DownRequested(cause))

    def detach(self) -> None:
        """See `Control.detach`."""
        self._session.is_detached = True
        self._session.do(self._session.set_detached(True))

    # ── single services ───────────────────────────────────────────────────────────────────────

    async def scale(
        self, service: str, replicas: int | None, *, wait: bool, timeout_seconds: float
    ) -> Outcome:
        """See `Control.scale`; answers when the wanted number serves and routes are in force."""
        definition = self.state.definition(service)
        assert definition is not None
        refusal = _cannot_scale(definition.kind, definition.has_fixed_port, service, replicas)
        if refusal is not None:
            return refusal
        self._session.post(e.ScaleRequested(service, replicas))
        count = definition.replicas if replicas is None else replicas
        if replicas is None and self.state.override(service).stopped:
            start = f"devstack start {service} starts {count}"
            return Outcome(0, (f"{service}: stopped; {start}",))
        if not wait:
            return Outcome(0, (f"{service} is being scaled to {count}",))
        outcome = await self._wait_for(
            service,
            lambda state: state.wanted_count(service) == count and is_scaled(state, service),
            timeout_seconds,
            scale_failure if count else _never,  # what does not start can be scaled to nothing
        )
        return outcome if not outcome.ok else Outcome(0, (f"{service}: {count} serving",))

    async def restart(self, service: str, *, wait: bool, timeout_seconds: float) -> Outcome:
        """See `Control.restart`: the current source, prepared and put in place by the update rule."""
        definition = self.state.definition(service)
        assert definition is not None
        refusal = self._nothing_to_start("restart", service)
        if refusal is not None:
            return refusal
        before = self.state.wanted_revision(service)
        if self._session.is_open and definition.runtime.owns_replicas:
            runtime = self._session.engine.operations.replicas[definition.runtime]
            digest = await runtime.source_digest(definition)
            if digest != self.state.of(service).source:
                self._session.post(e.SourceChanged(service, digest))
        self._session.post(e.RestartRequested(service))
        if not wait:
            return Outcome(0, (f"{service} is being restarted",))
        outcome = await self._wait_for(
            service,
            lambda state: state.wanted_revision(service) != before and is_current(state, service),
            timeout_seconds,
        )
        return outcome if not outcome.ok else Outcome(0, (f"{service}: restarted",))

    async def stop(self, service: str, *, wait: bool, timeout_seconds: float) -> Outcome:
        """See `Control.stop`."""
        self._session.post(e.StopRequested(service))
        if not wait:
            return Outcome(0, (f"{service} is being stopped",))
        outcome = await self._wait_for(
            service,
            lambda state: state.override(service).stopped and is_down(state, service),
            timeout_seconds,
            _never,  # what does not start can be stopped all the same
        )
        return outcome if not outcome.ok else Outcome(0, (f"{service}: stopped",))

    async def start(self, service: str, *, wait: bool, timeout_seconds: float) -> Outcome:
        """See `Control.start`."""
        refusal = self._nothing_to_start("start", service)
        if refusal is not None:
            return refusal
        self._session.post(e.StartRequested(service))
        if not wait:
            return Outcome(0, (f"{service} is being started",))
        outcome = await self._wait_for(
            service,
            lambda state: not state.override(service).stopped and is_current(state, service),
            timeout_seconds,
        )
        return outcome if not outcome.ok else Outcome(0, (f"{service}: started",))

    def _nothing_to_start(self, verb: str, service: str) -> Outcome | None:
        """Why no replica would come of a start; None when one would."""
        definition, wish = self.state.definition(service), self.state.override(service).replicas
        if (
            definition is None
            or definition.is_job
            or (definition.replicas if wish is None else wish)
        ):
            return None
        why = "it is scaled to 0" if wish is not None else "the stack file says `replicas: 0`"
        return Outcome(1, (f"cannot {verb} {service}: {why}", f"hint: devstack scale {service}=1"))

    async def reset(self, database: str, *, timeout_seconds: float) -> Outcome:
        """See `Control.reset`; answers when the jobs that work on the data ran again."""
        was_stopped = self.state.override(database).stopped
        stopped = await self.stop(database, wait=True, timeout_seconds=timeout_seconds)
        if not stopped.ok:
            return stopped
        folder = self._session.folders.data / database
        try:
            await asyncio.to_thread(remove_data, folder)
        except OSError as error:
            return Outcome(
                1,
                (
                    f"cannot remove the data of {database}: {refusal(error)}",
                    f"hint: {database} is stopped; see who owns that, then: devstack reset {database}",
                ),
            )
        self._session.engine.servers.forget(database)
        self._session.post(e.DataReset(database))
        if was_stopped:
            return Outcome(0, (f"{database}: data removed; it stays stopped",))
        started = await self.start(database, wait=True, timeout_seconds=timeout_seconds)
        if not started.ok:
            return started
        made = f"{database}: made anew"
        for job in self._jobs_on(database):
            done = await self._wait_for(job, partial(is_current, name=job), timeout_seconds)
            if not done.ok:
                return Outcome(1, (made, *done.lines))
        return Outcome(0, (made,))

    def _jobs_on(self, database: str) -> list[str]:
        """Those that run for new data."""
        return [
            name
            for name in self.state.dependents(database)
            if (service := self.state.definition(name)) is not None
            and service.is_job
            and not self.state.override(name).stopped
        ]

    async def _wait_for(
        self,
        service: str,
        is_so: Callable[[State], bool],
        timeout_seconds: float,
        failure_of: Callable[[State, str, float], str] = update_failure,
    ) -> Outcome:
        begun = self.now

        def cannot(state: State, now: float) -> tuple[str, ...]:
            if not state.is_listed(service):
                return (f"{service} was removed from the stack file",)
            # what was asked is recorded before anything that could fail because of it
            failure = failure_of(state, service, now)
            if not failure and now - begun > PATIENCE_SECONDS:
                failure = dependency_failure(state, service, now)
            return tuple(failure.splitlines())

        def late(state: State, now: float) -> tuple[str, ...]:
            view = service_view(state, self.plan, service, now)
            reason = f": {view.reason}" if view.reason else ""
            return (f"{service} is {view.word} after {timeout_seconds:g} s{reason}",)

        await asyncio.sleep(0)

        def is_so_here(state: State) -> bool:
            return state.is_listed(service) and is_so(state)

        return await wait_until(self._session, is_so_here, cannot, late, timeout_seconds)


def _never(state: State, service: str, now: float) -> str:
    del state, service, now
    return ""


def _cannot_scale(kind: Kind, fixed: bool, service: str, replicas: int | None) -> Outcome | None:
    """Why a service must not be scaled; None when it may."""
    if kind is not Kind.SERVICE:
        return Outcome(2, (f"cannot scale {service}: it is a {kind}",))
    if replicas is not None and replicas > policy.MOST_REPLICAS:
        most = policy.MOST_REPLICAS
        return Outcome(
            2, (f"cannot scale {service} to {replicas}: {most} at most, as in the stack file",)
        )
    if fixed and replicas is not None and replicas > 1:
        return Outcome(
            2,
            (
                f"cannot scale {service} to {replicas}: it listens on a fixed port",
                "hint: let it read $PORT, and write `port: NUMBER` instead of `{fixed: NUMBER}`",
            ),
        )
    return None
