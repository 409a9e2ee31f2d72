"""NGINX as the reserved Service `gateway`: prepared and started like any program, told by ops.

Which replica is the master, which configuration it has and which table is in force are facts of one
run; everything that decides them is in core.
"""

import asyncio
import contextlib
import json
import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from devstack.core.blame import refusal
from devstack.core.env import Variable
from devstack.core.events import Artifact, GatewayShape
from devstack.core.model import GATEWAY, Service, Stack
from devstack.core.routes import GatewayConfig, RoutingTable
from devstack.core.shape import wanted_shape
from devstack.core.state import State
from devstack.core.table import wanted_table
from devstack.engine.addresses import AddressBook
from devstack.engine.nginx_features import features_of
from devstack.engine.operations import GatewayFailed
from devstack.gateway.directive import UnsafeValue
from devstack.gateway.drain import wait_drained
from devstack.gateway.features import Features, NotNginx
from devstack.gateway.listeners import listeners_among
from devstack.gateway.live import LiveGateway, Loaded
from devstack.gateway.load import (
    BusyListen,
    ConfigRefused,
    Master,
    MasterGone,
    ReloadRefused,
    find_busy,
)
from devstack.gateway.render import CannotRender
from devstack.gateway.settings import GatewaySettings
from devstack.gateway.table import TableUnreachable
from devstack.gateway.wire import TableTooLarge
from devstack.keeper.errors import KeeperRefused, KeeperUnreachable
from devstack.provision import find_tool
from devstack.provision.tool import Settings, Tool, ToolUnavailable
from devstack.runtimes.base import PrepareFailed, RuntimeUnavailable, StartOrder
from devstack.runtimes.process.link import KeeperLink
from devstack.runtimes.process.programs import CannotLaunch, Launch, Surroundings
from devstack.runtimes.process.steps import KeeperSteps
from devstack.steps import StepFailed

_REFUSALS = (
    UnsafeValue,
    CannotRender,
    ConfigRefused,
    ReloadRefused,
    MasterGone,
    TableTooLarge,
    TableUnreachable,
    StepFailed,
    KeeperUnreachable,
    KeeperRefused,
    RuntimeUnavailable,
    OSError,
)
LAST_WORKERS_SECONDS = 2.0
TEND_SECONDS = 30.0
LOG_BYTES = 32 << 20


@dataclass(slots=True)
class NginxGateway:
    """A kind of program for the process runtime, and the gateway driver of the operations."""

    book: AddressBook
    link: KeeperLink
    settings: Settings
    surroundings: Surroundings
    folder: Path
    """Of its own, below the checkout's `.devstack`."""
    state: Callable[[], State]
    steps: Callable[[str, str], KeeperSteps]
    _tool: Tool | None = None
    _features: Features | None = None
    _live: LiveGateway | None = None
    _master: Master | None = None
    _shape: GatewayShape = field(default_factory=GatewayShape)
    _config: GatewayConfig = field(default_factory=lambda: GatewayConfig(stack=""))
    _warnings: tuple[str, ...] = ()
    _replica: str = ""
    """The newest replica of the gateway, to end what it may leave behind."""

    # ── as a program ──────────────────────────────────────────────────────────────────────────

    async def prepare(self, service: Service, revision: str, steps: KeeperSteps) -> Artifact:
        """Find or bring NGINX and ask what it can do."""
        del service, revision
        try:
            self._tool = await find_tool("nginx", wanted=None, steps=steps, settings=self.settings)
            self._features = await features_of(self._tool, self.settings.cache, steps)
        except ToolUnavailable as error:
            hint = f"\nhint: {error.hint}" if error.hint else ""
            raise PrepareFailed(f"{error}{hint}") from error
        except (NotNginx, StepFailed) as error:
            raise PrepareFailed(str(error)) from error
        warnings = self._tool.notes
        if not self._features.shared_table:
            warnings = (
                *warnings,
                "this NGINX has no njs: scaling and reloading wait for old workers",
            )
        return Artifact(digest=f"{self._tool.origin}-{self._tool.version}", warnings=warnings)

    async def source_digest(self, service: Service) -> str:
        """NGINX has no source here."""
        del service
        return ""

    async def launch(self, order: StartOrder, steps: KeeperSteps) -> Launch:
        """Write everything NGINX needs for its start."""
        await self._end_earlier()
        live = await self._live_gateway(order.service, order.revision, steps)
        state = self.state()
        self._replica = order.replica
        shape = wanted_shape(state)
        table = self._on_wall_clock(wanted_table(state, frozenset(), shape))
        try:
            loaded = await self._prepare_start(live, shape, table)
        except _REFUSALS as error:
            raise CannotLaunch(_why(error), permanent=False) from error
        self._take(shape, loaded)
        self._remember()  # a controller that comes after us may find it started, and us gone
        return Launch(
            argv=live.settings.command(),
            env=dict(self.surroundings.shell()),
            cwd=str(live.settings.folder),
        )

    def variables(
        self, service: Service, revision: str, ports: Mapping[str, int]
    ) -> tuple[Variable, ...]:
        """NGINX has the shell's."""
        del service, revision, ports
        return tuple(Variable(n, v, "shell") for n, v in sorted(self.surroundings.shell().items()))

    def release(self, replica: str) -> None:
        """NGINX is gone."""
        del replica
        self._master = None

    # ── as the driver ─────────────────────────────────────────────────────────────────────────

    async def confirm(self, replica: str, pid: int) -> tuple[GatewayShape, tuple[str, ...]]:
        """Wait until the started NGINX serves. Raises `GatewayFailed`."""
        self._master = self._as_master(replica, pid)
        state = self.state()
        table = self._on_wall_clock(wanted_table(state, frozenset(), self._shape))
        try:
            await self._known_live.confirm_start(self._master, self._config, table)
        except _REFUSALS as error:
            raise GatewayFailed(_why(error)) from error
        return self._shape, self._warnings

    async def adopt(
        self, stack: Stack, revision: str, replica: str, pid: int
    ) -> GatewayShape | None:
        """Take over the NGINX of an earlier controller; None when what it has loaded is not known.

        Raises `CannotLaunch` where it cannot be looked after.
        """
        steps = self.steps(GATEWAY, revision)
        await self._live_gateway(stack.service(GATEWAY), revision, steps)
        self._master = self._as_master(replica, pid)
        self._replica = replica
        try:
            raw = json.loads((self.folder / "shape.json").read_text())
            shape = _without_strangers(_shape_from_json(raw), stack)
            self._config = self.book.gateway_config(shape)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # none, not ours, or of another version
        self._shape = shape
        return shape

    async def set_routes(self, table: RoutingTable) -> None:
        """See `GatewayDriver.set_routes`."""
        try:
            await self._known_live.replace(
                self._known_master, self._config, self._on_wall_clock(table)
            )
        except _REFUSALS as error:
            settings = self._known_live.settings
            # without its socket nobody can ever tell it anything, and it cannot be given another
            is_lost = settings.features.shared_table and not settings.admin_socket.exists()
            raise GatewayFailed(_why(error), is_lost=is_lost) from error

    async def load(self, shape: GatewayShape) -> tuple[str, ...]:
        """See `GatewayDriver.load`."""
        config = self.book.gateway_config(shape)
        table = self._on_wall_clock(wanted_table(self.state(), frozenset(), shape))
        try:
            self._refuse_busy_public(config)
            loaded = await self._known_live.load(self._known_master, config, table)
            self._refuse_without_public(config, loaded)
        except _REFUSALS as error:
            raise GatewayFailed(_why(error)) from error
        self._take(shape, loaded)
        self._remember()
        return self._warnings

    async def wait_drained(self, addresses: tuple[str, ...], grace_seconds: float) -> None:
        """See `GatewayDriver.wait_drained`."""
        deadline = time.monotonic() + grace_seconds
        for address in addresses:
            port = address.rpartition(":")[2]
            if port.isdigit():
                await wait_drained(int(port), max(0.0, deadline - time.monotonic()))

    async def tend(self) -> None:
        """Keep NGINX's own logs small, for ever."""
        while True:
            await asyncio.sleep(TEND_SECONDS)
            if self._live is not None and self._master is not None:
                with contextlib.suppress(*_REFUSALS):
                    await self._live.rotate_logs(self._master, LOG_BYTES)

    async def ask(self) -> str:
        """Why NGINX is not ready; empty when its admin socket answers."""
        if self._live is None or self._master is None:
            return "not started"
        if not self._live.settings.features.shared_table:
            return ""
        try:
            await self._live.generation()
        except (TableUnreachable, OSError) as error:
            return str(error)
        return ""

    # ── inside ────────────────────────────────────────────────────────────────────────────────

    async def _end_earlier(self) -> None:
        """Workers outlive a killed master for a moment, and hold every address the next one needs."""
        earlier, self._replica = self._replica, ""
        if not earlier:
            return
        with contextlib.suppress(KeeperUnreachable, KeeperRefused, TimeoutError):
            await self.link.client.kill(earlier)
            async with asyncio.timeout(LAST_WORKERS_SECONDS):
                while await self.link.client.descendants(earlier):  # noqa: ASYNC110 - no notice of it
                    await asyncio.sleep(0.005)

    async def _prepare_start(
        self, live: LiveGateway, shape: GatewayShape, table: RoutingTable
    ) -> Loaded:
        """Write the configuration; a public port that is only wanted is given up when it is taken."""
        config = self.book.gateway_config(shape)
        loaded = await live.prepare_start(config, table)
        is_taken = any(busy.listen in config.public for busy in loaded.busy)
        if is_taken and self.book.move_gateway():
            config = self.book.gateway_config(shape)
            loaded = await live.prepare_start(config, table)
        self._refuse_without_public(config, loaded)
        return loaded

    async def _live_gateway(
        self, service: Service, revision: str, steps: KeeperSteps
    ) -> LiveGateway:
        if self._tool is None or self._features is None:
            try:
                await self.prepare(service, revision, steps)
            except PrepareFailed as error:
                raise CannotLaunch(str(error), permanent=False) from error
        assert self._tool is not None
        assert self._features is not None
        settings = GatewaySettings(
            program=self._tool.binaries["nginx"],
            features=self._features,
            folder=self.folder,
            as_root=os.geteuid() == 0,
            open_files=min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        )
        self._live = LiveGateway(settings, steps, self._longest_grace())
        return self._live

    def _longest_grace(self) -> float:
        """How long old workers of an NGINX without shared dictionaries are waited for, in seconds.

        Whoever still answers one of their requests has that long.
        """
        stack = self.state().stack
        services = stack.services.values() if stack is not None else ()
        return max((s.stop.grace_seconds for s in services if s.is_balanced), default=0.0)

    @property
    def _known_live(self) -> LiveGateway:
        if self._live is None:
            raise GatewayFailed("NGINX does not run")
        return self._live

    @property
    def _known_master(self) -> Master:
        if self._master is None:
            raise GatewayFailed("NGINX does not run")
        return self._master

    def _as_master(self, replica: str, pid: int) -> Master:
        async def signal(number: int) -> None:
            await self.link.client.signal(replica, number)

        return Master(pid, signal)

    def _take(self, shape: GatewayShape, loaded: Loaded) -> None:
        self._shape = shape
        self._config = loaded.config
        self._warnings = tuple(str(busy) for busy in loaded.busy)

    def _remember(self) -> None:
        """For a later controller: what this NGINX has loaded; nothing where that cannot be written.

        It then loads its own, which costs a reload.
        """
        file = self.folder / "shape.json"
        try:
            file.write_text(json.dumps(asdict(self._shape)))
        except OSError:
            with contextlib.suppress(OSError):
                file.unlink()

    def _refuse_busy_public(self, config: GatewayConfig) -> None:
        """Tested before anything is loaded: the public address in force must not go for a taken one."""
        held = {(at.address, at.port) for at in listeners_among([self._known_master.pid])}
        for busy in find_busy(at for at in config.public if (at.address, at.port) not in held):
            raise ReloadRefused(_public_is_busy(busy))

    @staticmethod
    def _refuse_without_public(config: GatewayConfig, loaded: Loaded) -> None:
        """A gateway that cannot listen where people look for it is no gateway."""
        for busy in loaded.busy:
            if busy.listen in config.public:
                raise ReloadRefused(_public_is_busy(busy))

    @staticmethod
    def _on_wall_clock(table: RoutingTable) -> RoutingTable:
        """Core counts on the monotonic clock, pages show the wall clock's seconds."""
        offset = time.time() - time.monotonic()
        return replace(table, since={key: at + offset for key, at in table.since.items()})


def _why(error: Exception) -> str:
    return refusal(error) if isinstance(error, OSError) else str(error)


def _public_is_busy(busy: BusyListen) -> str:
    return f"{busy}\nhint: stop what holds it, or choose another `gateway: port:`"


def _without_strangers(shape: GatewayShape, stack: Stack) -> GatewayShape:
    """Services may have left the stack file while no controller lived."""
    return replace(
        shape,
        slots=tuple(one for one in shape.slots if one[0] in stack.services),
        endpoints=tuple(one for one in shape.endpoints if one[0] in stack.services),
    )


def _shape_from_json(raw: dict[str, list[object]]) -> GatewayShape:
    """The shape as it was written; JSON knows lists where we have tuples."""

    def frozen(value: object) -> object:
        return tuple(frozen(item) for item in value) if isinstance(value, list) else value

    return GatewayShape(**{name: frozen(value) for name, value in raw.items()})  # type: ignore[arg-type]  # written by `_remember` from the same class
