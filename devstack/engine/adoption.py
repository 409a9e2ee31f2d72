"""Taking over what an earlier controller ran: its snapshot and the keeper's list, turned into events.

begin: Restored, ReplicaAdopted, ends that nobody heard, what NGINX has loaded
finish: replicas are asked anew, drains are waited for, stops that were not sent are sent
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from devstack.core import events as e
from devstack.core.model import GATEWAY, Stack
from devstack.engine.assembly import Engine
from devstack.engine.controller import Controller
from devstack.runtimes.base import Recovered, Recovery, RuntimeUnavailable
from devstack.runtimes.process.programs import CannotLaunch

ADOPTION_SECONDS = 1.5
"""How long the routing table of an adopted gateway is left alone while replicas are asked anew."""


class Adoption:
    """One controller's; there may be nothing to take over."""

    def __init__(
        self,
        engine: Engine,
        controller: Controller,
        do: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._engine = engine
        self._controller = controller
        self._do = do
        self._running: tuple[Recovered, ...] = ()
        self._shape: e.GatewayShape | None = None
        """What the adopted NGINX has loaded, where that is known."""
        self._knows_ready = False
        """Whether an earlier controller left word of which replicas were ready."""

    async def begin(
        self, stack: Stack, known: tuple[e.Restored, ...], *, is_asked_for: bool
    ) -> None:
        """Tell what was found; before anything is planned. `is_asked_for`: by a person's `up`."""
        engine = self._engine
        for restored in known:
            if restored.service in stack.services:
                self._post(restored)
        try:
            recovery = await engine.runtime.recover()
        except RuntimeUnavailable:
            recovery = Recovery()  # the keeper died, and with it all that ran
        self._adopt_replicas(recovery, stack, {restored.service: restored for restored in known})
        if is_asked_for:
            # as any other `up`: what was given up is tried again
            self._post(e.StackApplied(stack))
        self._knows_ready = bool(known)
        for found in recovery.running:
            if found.service == GATEWAY and GATEWAY in stack.services:
                await self._adopt_gateway(found, stack)
        self._running = recovery.running
        if recovery.running:
            count = len(recovery.running)
            self._post(e.Noted(f"a new controller looks after {count} running replicas"))

    async def _adopt_gateway(self, found: Recovered, stack: Stack) -> None:
        assert found.pid is not None, "an NGINX of ours is a process"
        try:
            self._shape = await self._engine.nginx.adopt(
                stack, found.revision, found.replica, found.pid
            )
        except (CannotLaunch, OSError) as error:
            self._post(e.Noted(f"cannot look after the running NGINX: {error}", GATEWAY))
            grace_seconds = stack.service(GATEWAY).stop.grace_seconds
            await self._engine.link.stop(found.replica, signal.SIGTERM, grace_seconds)
            return
        if self._knows_ready and self._shape is not None:
            # before anything is planned: what leaves must leave the routing table first
            self._post(e.GatewayLoaded(self._shape))

    def _adopt_replicas(
        self, recovery: Recovery, stack: Stack, known: Mapping[str, e.Restored]
    ) -> None:
        engine = self._engine
        for found in recovery.running:
            service = stack.services.get(found.service)
            if service is None:
                # its service has left the file meanwhile: nobody would ever stop it
                self._do(engine.link.stop(found.replica, signal.SIGTERM, 10.0))
                continue
            engine.runtime.remember(found, service)
            engine.surroundings.hold_ports(found.replica, found.addresses)
            self._post(_adopted(found))
        for ended in recovery.ended:
            service = stack.services.get(ended.replica.service)
            if service is not None and not _is_recorded(ended.replica, known.get(service.name)):
                self._post(_adopted(ended.replica))
                engine.operations.tell_end(service.runtime, ended.end, self._post)

    async def finish(self) -> None:
        """Go on with adopted replicas; where it is not known which were ready, let them answer first.

        Else their NGINX would be told at once that nobody is.
        """
        if not self._running:
            return
        await self._controller.until(lambda state: state.stack is not None)
        names = {found.replica for found in self._running if found.service != GATEWAY}
        gateways = [found for found in self._running if found.service == GATEWAY]
        async with asyncio.TaskGroup() as tasks:
            for found in self._running:
                if found.replica in names:
                    tasks.create_task(self._take_up(found))
            if gateways and not self._knows_ready:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ADOPTION_SECONDS):
                        await self._controller.until(
                            lambda state: all(
                                r.ready for r in state.replicas.values() if r.id in names
                            )
                        )
            for gateway in gateways:
                replica = self._controller.state.replicas.get(gateway.replica)
                # one that was refused, or replaced meanwhile, says nothing of what is loaded
                is_current = replica is not None and replica.is_current
                if is_current and self._shape is not None and not self._knows_ready:
                    self._post(e.GatewayLoaded(self._shape))
                # as soon as it is ready it is told what has changed
                tasks.create_task(self._take_up(gateway))

    async def _take_up(self, found: Recovered) -> None:
        if found.replica in self._controller.state.replicas:  # else it ended meanwhile
            await self._engine.operations.take_up(self._controller.state, found, self._post)

    def _post(self, event: e.Event) -> None:
        self._controller.post(event)


def _is_recorded(ended: Recovered, known: e.Restored | None) -> bool:
    """Whether the end of a replica is in the snapshot already, though the keeper was not told so.

    The snapshot has every replica whose start was intended and whose end was not recorded.
    """
    if known is None or ended.replica in dict(known.replicas):
        return False
    started = dict(known.slots).get(ended.slot or 0, e.Slot()).started
    return int(ended.replica.rpartition("#")[2] or 0) <= started


def _adopted(found: Recovered) -> e.ReplicaAdopted:
    """A replica of an earlier controller, as it is told."""
    return e.ReplicaAdopted(
        found.replica,
        found.service,
        found.slot,
        found.revision,
        found.pid,
        found.addresses,
        found.started_at,
        found.is_stopping,
    )
