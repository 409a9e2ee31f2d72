"""A `Control` that does what a test says: no engine, no processes, a State made by hand."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from devstack.api.control import EnvLine, Outcome, Told, UpRequest
from devstack.core.events import Attempts, Exit, Slot
from devstack.core.model import (
    Endpoint,
    FakeProgram,
    Gateway,
    Kind,
    RuntimeName,
    Service,
    Stack,
    Stop,
)
from devstack.core.ops import Hold, Plan
from devstack.core.routes import Route
from devstack.core.state import Override, Phase, Replica, ServiceState, State


def _service(name: str, kind: Kind = Kind.SERVICE, replicas: int = 1) -> Service:
    return Service(
        name,
        kind,
        FakeProgram(),
        runtime=RuntimeName.FAKE,
        replicas=replicas,
        endpoints=(Endpoint("http", 8080),),
        stop=Stop(grace_seconds=10.0),
    )


SERVICES = {
    "api": _service("api", replicas=2),
    "db": _service("db", Kind.DATABASE),
}
STACK = Stack(
    name="shop",
    id="0123456789",
    file="/somewhere/shop/stack.yaml",
    folder="/somewhere/shop",
    services=SERVICES,
    gateway=Gateway(routes=(Route("/api", "api"),)),
)


def running_state() -> State:
    """`api` with one of two replicas, overridden to three; `db` crashed once."""
    api = Replica(
        "api.1#7",
        "api",
        1,
        "abc",
        Phase.RUNNING,
        ready=True,
        pid=4242,
        spawned=True,
        addresses=(("http", "127.0.0.1:10240"),),
        started_at=1_760_000_000.0,
    )
    cluster = Replica("api-8d2f", "api", None, "abc", Phase.STARTING, observed=True, restarts=2)
    return State(
        stack=STACK,
        services={
            "api": ServiceState(
                desired="abc", slots={1: Slot(started=7, restarts=6)}, warnings=("a warning",)
            ),
            "db": ServiceState(
                desired="def",
                slots={
                    1: Slot(
                        started=1,
                        newest=Attempts(failures=1),
                        last_exit=Exit(code=3, wall=1_760_000_001.0),
                    )
                },
            ),
        },
        replicas={"api.1#7": api, "api-8d2f": cluster},
        overrides={"api": Override(replicas=3)},
    )


class Scripted:
    """See the module's docstring."""

    def __init__(self, logs: Path = Path("/nowhere/logs")) -> None:
        self.state = State()
        self.plan = Plan(holds=(Hold("db", 1, "waits 4 s after the last exit"),))
        self.now = 100.0
        self.logs = logs
        self.calls: list[str] = []
        self.told: asyncio.Queue[Told | None] = asyncio.Queue()
        self.may_scale = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.up_outcome = Outcome()
        self.requests: list[UpRequest] = []
        self.bug: BaseException | None = None

    def gateway_url(self) -> str | None:
        return "http://127.0.0.1:8080"

    def url(self, service: str) -> str | None:
        return f"http://127.64.1.2:8080/#{service}" if service == "api" else None

    def notes(self) -> tuple[str, ...]:
        return ("names: every service by its own name",)

    async def up(self, request: UpRequest) -> Outcome:
        self.calls.append("up")
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.up_outcome.ok:
            self.state = running_state()
        return self.up_outcome

    async def wait_settled(self, timeout_seconds: float) -> Outcome:
        self.calls.append(f"wait {timeout_seconds:g}")
        await self.may_scale.wait()
        return Outcome(1, ("db: exited with code 3",))

    async def scale(
        self, service: str, replicas: int | None, *, wait: bool, timeout_seconds: float
    ) -> Outcome:
        self.calls.append(f"scale {service} {replicas} {wait}")
        if self.bug is not None:
            raise self.bug
        if wait:
            await self.may_scale.wait()
        return Outcome(0, (f"{service}: {replicas} serving",))

    async def restart(self, service: str, *, wait: bool, timeout_seconds: float) -> Outcome:
        self.calls.append(f"restart {service}")
        return Outcome(1, (f"cannot restart {service}: it does not build", "hint: app.py:3"))

    async def stop(self, service: str, *, wait: bool, timeout_seconds: float) -> Outcome:
        self.calls.append(f"stop {service}")
        return Outcome()

    async def start(self, service: str, *, wait: bool, timeout_seconds: float) -> Outcome:
        self.calls.append(f"start {service}")
        return Outcome()

    async def reset(self, database: str, *, timeout_seconds: float) -> Outcome:
        self.calls.append(f"reset {database}")
        return Outcome()

    async def down(self, *, volumes: bool) -> Outcome:
        self.calls.append("down with volumes" if volumes else "down")
        await self.may_end.wait()
        return Outcome(0, ("stopped 2 services",))

    def leave(self) -> None:
        self.calls.append("leave")

    def kill_all(self) -> None:
        self.calls.append("kill")

    def why(self, service: str) -> tuple[str, ...]:
        return (f"{service} is as it is", "\x1b[2Jits last words")

    def env(self, service: str) -> tuple[EnvLine, ...]:
        return (
            EnvLine("PORT", "10240", "devstack", ("environment",)),
            EnvLine("DB_PASSWORD", "‹secret›", "injected", ()),
        )

    async def follow(self) -> AsyncIterator[Told]:
        self.calls.append("follow")
        while (told := await self.told.get()) is not None:
            yield told

    def finish(self) -> None:
        """Nothing more happens."""
        self.told.put_nowait(None)

    def hold_lease(self) -> None:
        self.calls.append("hold_lease")

    def release_lease(self, *, lost: bool) -> None:
        self.calls.append("lease lost" if lost else "lease released")

    def detach(self) -> None:
        self.calls.append("detach")
