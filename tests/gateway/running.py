"""A real NGINX under a `LiveGateway`, with two services `orders` and `users`, for tests."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devstack.core.routes import GatewayConfig, Listen, Route, RoutingTable, Slots, Target, Upstream
from devstack.gateway.features import Features
from devstack.gateway.listeners import listeners_among
from devstack.gateway.live import LiveGateway, Loaded
from devstack.gateway.load import Master
from devstack.gateway.settings import GatewaySettings
from devstack.gateway.workers import start_time, workers_of
from tests.gateway.parts import Replica, ask, eventually, free_ports
from tests.support.steps import SubprocessSteps

GATEWAY_PORT = 8080


def own_address() -> str:
    """A loopback address that no other test uses."""
    return f"127.{random.randrange(200, 250)}.{random.randrange(256)}.{random.randrange(1, 255)}"


@dataclass(frozen=True)
class Nginx:
    """A program and what it can do."""

    program: Path
    features: Features


@dataclass
class Shop:
    """A stack with two HTTP services, one TCP service and a gateway."""

    public: Listen = field(default_factory=lambda: Listen(own_address(), GATEWAY_PORT))
    orders: Listen = field(default_factory=lambda: Listen(own_address(), 8080))
    users: Listen = field(default_factory=lambda: Listen(own_address(), 8080))
    lines: Listen = field(default_factory=lambda: Listen(own_address(), 7000))
    ports: tuple[int, ...] = field(default_factory=lambda: free_ports(8))
    routes: tuple[Route, ...] = (Route("/orders", "orders"), Route("/users", "users"))

    def config(self, *, tcp: bool = False) -> GatewayConfig:
        p = self.ports
        services: tuple[Slots, ...] = (
            Slots(
                "orders",
                "orders",
                Upstream.HTTP,
                (self.orders,),
                ((p[0], p[1]), (p[2],), (p[3],), (p[6],)),
            ),
            Slots("users", "users", Upstream.HTTP, (self.users,), ((p[4],),)),
        )
        if tcp:
            services += (Slots("lines", "lines", Upstream.TCP, (self.lines,), ((p[5],), (p[7],))),)
        return GatewayConfig("shop", (self.public,), self.routes, services)


def table(**ready: list[Replica]) -> RoutingTable:
    return RoutingTable(
        {
            key: tuple(
                Target(slot, _literal(each), each.name) for slot, each in enumerate(some, start=1)
            )
            for key, some in ready.items()
        }
    )


def _literal(replica: Replica) -> str:
    host = f"[{replica.address}]" if ":" in replica.address else replica.address
    return f"{host}:{replica.port}"


@dataclass
class RunningGateway:
    """An NGINX that serves."""

    live: LiveGateway
    process: asyncio.subprocess.Process
    shop: Shop
    config: GatewayConfig
    started: Loaded

    @property
    def master(self) -> Master:
        async def send(number: int) -> None:
            self.process.send_signal(number)

        return Master(self.process.pid, send)

    async def replace(self, now: RoutingTable) -> None:
        await self.live.replace(self.master, self.config, now)

    async def load(self, config: GatewayConfig, now: RoutingTable) -> Loaded:
        loaded = await self.live.load(self.master, config, now)
        self.config = config
        return loaded

    async def get(self, target: str, host: str = "localhost", **headers: str) -> tuple[int, str]:
        """Ask the public gateway."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await ask(
            self.shop.public.address, self.shop.public.port, target, host=host, headers=sent
        )
        return answer.status, answer.text


def settings_for(nginx: Nginx, folder: Path) -> GatewaySettings:
    return GatewaySettings(nginx.program, nginx.features, folder / "gateway", os.geteuid() == 0)


@asynccontextmanager
async def running(
    nginx: Nginx,
    folder: Path,
    now: RoutingTable | None = None,
    *,
    shop: Shop | None = None,
    tcp: bool = False,
    config: GatewayConfig | None = None,
) -> AsyncIterator[RunningGateway]:
    """Start NGINX, prove afterwards that nothing of it is left and nothing listened beyond loopback."""
    shop = shop or Shop()
    config = config or shop.config(tcp=tcp)
    now = now or RoutingTable()
    settings = settings_for(nginx, folder)
    live = LiveGateway(settings, SubprocessSteps(), grace_seconds=5.0)
    started = await live.prepare_start(config, now)
    process = await asyncio.create_subprocess_exec(*settings.command(), cwd=settings.folder)
    gateway = RunningGateway(live, process, shop, config, started)
    try:
        await live.confirm_start(gateway.master, config, now)
        # the first one answers already while NGINX still starts the second
        await eventually(lambda: len(workers_of(process.pid)) == settings.workers)
        yield gateway
        for each in listeners_among([process.pid]):
            assert each.address.startswith("127.") or each.address == "::1"
    finally:
        left = workers_of(process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await process.wait()
        assert not [each for each in left if start_time(each.pid) == each.started]
