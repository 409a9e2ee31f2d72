"""The gateway's NGINX while it runs: what the engine calls to start, reload and feed it.

It starts nothing but `nginx -t`; the engine has the keeper start `command()` after `prepare_start`.
With a table in shared memory `replace` costs a request; without one it is a reload that waits for the
replaced workers, so that after either no request goes to a replica that is not in the table.
"""

import asyncio
import contextlib
import signal
from dataclasses import dataclass

from devstack.core.routes import GatewayConfig, RoutingTable
from devstack.gateway.files import put_file
from devstack.gateway.load import (
    BusyListen,
    Candidate,
    Master,
    ReloadRefused,
    load_candidate,
    make_candidate,
    wait_gone,
    wait_started,
)
from devstack.gateway.settings import GatewaySettings
from devstack.gateway.table import read_table, replace_table
from devstack.gateway.wire import WireTable, tcp_keys, to_wire
from devstack.steps import StepRunner

_START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """The outcome of a load: what is in force now."""

    config: GatewayConfig
    """Without the addresses that were busy."""
    busy: tuple[BusyListen, ...]
    reloaded: bool
    """False where NGINX had this configuration already."""


class LiveGateway:
    """One NGINX, from before its start to its end. Calls that change something take turns."""

    def __init__(self, settings: GatewaySettings, steps: StepRunner, grace_seconds: float) -> None:
        self.settings = settings
        self._steps = steps
        self._grace_seconds = grace_seconds
        """How long replaced workers are waited for where the table is part of the configuration."""
        self._turn = asyncio.Lock()
        self._text = ""

    async def prepare_start(self, config: GatewayConfig, table: RoutingTable) -> Loaded:
        """Write everything NGINX needs; then start `settings.command()` in `settings.folder`.

        Only while none runs in that folder: its unix sockets are removed.
        """
        async with self._turn:
            self.settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.settings.folder.chmod(0o700)  # its unix sockets are open to whoever gets in
            for stale in self.settings.folder.glob("*.sock"):
                stale.unlink(missing_ok=True)
            self._write_table_files(to_wire(table, tcp_keys(config)))
            candidate = await make_candidate(config, table, self.settings, self._steps, None)
            self.settings.candidate_path.replace(self.settings.config_path)
            return self._now(candidate, reloaded=False)

    async def confirm_start(
        self, master: Master, config: GatewayConfig, table: RoutingTable
    ) -> None:
        """Wait until the started NGINX serves, and put the newest table in force."""
        await wait_started(master.pid, self.settings, _START_SECONDS)
        await self.replace(master, config, table)

    async def load(self, master: Master, config: GatewayConfig, table: RoutingTable) -> Loaded:
        """Put a configuration in force in the running NGINX; the old one stays on any error.

        Raises `UnsafeValue`, `CannotRender`, `ConfigRefused`, `ReloadRefused`, `MasterGone`.
        """
        async with self._turn:
            return await self._load(master, config, table)

    async def replace(self, master: Master, config: GatewayConfig, table: RoutingTable) -> None:
        """Put a routing table in force; when this returns every later request sees it.

        Raises `UnsafeValue`, `TableTooLarge`, `TableUnreachable`, and OSError where only the TCP services'
        part could not be; without shared memory what `load` does.
        """
        async with self._turn:
            wire = to_wire(table, tcp_keys(config))
            if not self.settings.features.shared_table:
                await self._load(master, config, table)
                return
            await replace_table(self.settings.admin_socket, wire)
            put_file(self.settings.tcp_table_path, wire.tcp)  # last: the disk may be full

    async def rotate_logs(self, master: Master, most_bytes: int) -> bool:
        """Start new log files when one of them has grown past `most_bytes`; one older one is kept."""
        logs = [self.settings.access_log, self.settings.error_log]
        async with self._turn:
            grown = [log for log in logs if log.is_file() and log.stat().st_size > most_bytes]
            for log in grown:
                log.replace(log.with_name(log.name + ".1"))
            if grown:
                await master.signal(signal.SIGUSR1)
            return bool(grown)

    async def generation(self) -> str:
        """Which table is in force: equal for equal tables. Raises `TableUnreachable`."""
        return (await read_table(self.settings.admin_socket)).generation

    async def _load(self, master: Master, config: GatewayConfig, table: RoutingTable) -> Loaded:
        candidate = await self._candidate(master, config, table)
        if candidate.rendered.text == self._text:
            with contextlib.suppress(FileNotFoundError):
                self.settings.candidate_path.unlink()
            return self._now(candidate, reloaded=False)
        try:
            replaced = await load_candidate(candidate, self.settings, master)
        except ReloadRefused:
            # Somebody may have taken a port after it was tested: once more without it.
            again = await self._candidate(master, config, table)
            if again.busy == candidate.busy:
                raise
            candidate = again
            replaced = await load_candidate(candidate, self.settings, master)
        if not self.settings.features.shared_table:
            await wait_gone(replaced, self._grace_seconds)
        return self._now(candidate, reloaded=True)

    async def _candidate(
        self, master: Master, config: GatewayConfig, table: RoutingTable
    ) -> Candidate:
        return await make_candidate(config, table, self.settings, self._steps, master.pid)

    def _now(self, candidate: Candidate, *, reloaded: bool) -> Loaded:
        self._text = candidate.rendered.text
        return Loaded(candidate.config, candidate.busy, reloaded)

    def _write_table_files(self, wire: WireTable) -> None:
        put_file(self.settings.state_path, wire.state)
        put_file(self.settings.tcp_table_path, wire.tcp)
