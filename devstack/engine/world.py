"""What probes need beyond sockets, on the process runtime: own processes, programs, queries, log lines."""

import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from devstack.core.model import ArgvCommand, Command, EngineProgram, Service, ShellCommand
from devstack.engine.gateway import NginxGateway
from devstack.engine.surroundings import StackSurroundings
from devstack.engines.base import NotReady
from devstack.engines.registry import ENGINES
from devstack.keeper.errors import KeeperRefused, KeeperUnreachable, SpawnError
from devstack.logs.format import file_name
from devstack.logs.segments import segment_numbers
from devstack.runtimes.process.programs import CannotLaunch
from devstack.runtimes.process.runtime import ProcessRuntime


@dataclass(slots=True)
class _LogPosition:
    """How far a replica's log has been searched, and that the line was found."""

    segment: int = 0
    offset: int = 0
    rest: bytes = b""
    found: bool = False


@dataclass(slots=True)
class ProcessWorld:
    """See the module's docstring."""

    runtime: ProcessRuntime
    surroundings: StackSurroundings
    gateway: NginxGateway
    _positions: dict[tuple[str, str], _LogPosition] = field(default_factory=dict)

    async def own_pids(self, replica: str) -> frozenset[int]:
        """See `ProbeWorld.own_pids`."""
        return await self.runtime.link.descendants(replica)

    async def run(
        self, replica: str, service: Service, command: Command, timeout_seconds: float
    ) -> str:
        """See `ProbeWorld.run`."""
        try:
            argv = self._argv(service, command, replica)
        except CannotLaunch as error:
            return str(error)
        spec = self.runtime.beside(replica, self.runtime.link.step_key("probe:", replica), argv)
        if spec is None:
            return "it is not running"
        try:
            exit_ = await self.runtime.link.run_for(spec, timeout_seconds)
        except TimeoutError:
            return f"the probe did not end within {timeout_seconds:g} s"
        except (SpawnError, KeeperRefused, KeeperUnreachable) as error:
            return f"the probe cannot be started: {error}"
        if exit_.code == 0:
            return ""
        words = exit_.output.decode("utf-8", "replace").strip().splitlines()
        how = f"code {exit_.code}" if exit_.code is not None else f"signal {exit_.signal}"
        return f"the probe ended with {how}" + (f": {words[-1]}" if words else "")

    def load_driver(self, service: Service) -> None:
        """See `ProbeWorld.load_driver`."""
        assert isinstance(service.program, EngineProgram)
        driver = ENGINES[service.program.engine].driver
        if driver:
            importlib.import_module(driver)

    def query(self, service: Service, timeout_seconds: float) -> str:
        """See `ProbeWorld.query`."""
        assert isinstance(service.program, EngineProgram)
        engine = ENGINES[service.program.engine]
        try:
            listen = self.surroundings.listen(service.name, service.endpoints[0])
            engine.query(
                self.surroundings.engine_spec(service), listen.address, listen.port, timeout_seconds
            )
        except NotReady as error:
            return error.reason
        except CannotLaunch as error:
            return str(error)
        return ""

    async def ask_gateway(self) -> str:
        """See `ProbeWorld.ask_gateway`."""
        return await self.gateway.ask()

    def log_has(self, replica: str, service: Service, pattern: str) -> bool:
        """See `ProbeWorld.log_has`; each byte is searched once."""
        position = self._positions.setdefault((replica, pattern), _LogPosition())
        if position.found:
            return True
        target = self.runtime.log_target(service.name, replica)
        expression = re.compile(pattern)
        while True:
            path = Path(target.folder) / file_name(target.name, "log", position.segment)
            try:
                with path.open("rb") as file:
                    file.seek(position.offset)
                    data = file.read(1 << 20)
            except FileNotFoundError:
                later = [
                    number
                    for number in segment_numbers(target.folder, target.name)
                    if number > position.segment
                ]
                if not later:
                    return False
                # the quota has removed it: what is left is searched
                position.segment, position.offset, position.rest = later[0], 0, b""
                continue
            if not data:
                following = file_name(target.name, "log", position.segment + 1)
                if not (Path(target.folder) / following).exists():
                    return False
                position.segment, position.offset = position.segment + 1, 0
                continue
            position.offset += len(data)
            *lines, position.rest = (position.rest + data).split(b"\n")
            candidates = [*lines, position.rest]
            if any(expression.search(line.decode("utf-8", "replace")) for line in candidates):
                position.found = True
                return True

    def _argv(self, service: Service, command: Command, replica: str) -> tuple[str, ...]:
        ports = self.runtime.ports_of(replica)
        match command:
            case ShellCommand(text):
                return ("/bin/sh", "-c", *self.surroundings.resolve(service, (text,), ports))
            case ArgvCommand(argv):
                return self.surroundings.resolve(service, argv, ports)
