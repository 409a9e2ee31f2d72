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
from devstack.keeper.requests import LogTarget
from devstack.logs.format import DATA, file_name
from devstack.logs.segments import segment_numbers
from devstack.runtimes.process.programs import CannotLaunch
from devstack.runtimes.process.runtime import ProcessRuntime

LOOK_BYTES = 1 << 20
"""Of a log in one look: everything else waits for that."""
REST_BYTES = 64 << 10
"""Of a line that goes on, so much is searched again with what follows."""
_ANYTHING_FIRST = re.compile(r"^(\.\*)+(?![?*+{])")


@dataclass(slots=True)
class _LogPosition:
    """How far a replica's log has been searched, and that the line was found."""

    segment: int = 0
    offset: int = 0
    rest: bytes = b""
    """The end of a line that goes on."""
    found: bool = False

    def read_on(self, target: LogTarget) -> bytes:
        """The next part of the log; empty where there is nothing new."""
        while True:
            is_complete = self._file(target, self.segment + 1).exists()
            try:
                with self._file(target, self.segment).open("rb") as file:
                    file.seek(self.offset)
                    data = file.read(LOOK_BYTES)
            except FileNotFoundError:
                segments = segment_numbers(target.folder, target.name)
                later = next((number for number in segments if number > self.segment), None)
                if later is None:
                    return b""
                # the quota has removed it: what is left is searched
                self.segment, self.offset, self.rest = later, 0, b""
                continue
            if data or not is_complete:
                self.offset += len(data)
                return data
            self.segment, self.offset = self.segment + 1, 0

    def search(self, data: bytes, pattern: str) -> None:
        """Look for a line that matches; of one that goes on, no more than its end is kept."""
        if not data:
            return
        # what a terminal would write over (`98 %\r`) are lines too
        lines = (self.rest + data.replace(b"\r", b"\n")).split(b"\n")
        self.rest = lines[-1][-REST_BYTES:]
        # at the start it changes no answer, and takes the square of the time
        expression = re.compile(_ANYTHING_FIRST.sub("", pattern))
        self.found = any(expression.search(line.decode("utf-8", "replace")) for line in lines)

    @staticmethod
    def _file(target: LogTarget, segment: int) -> Path:
        return Path(target.folder) / file_name(target.name, DATA, segment)


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
        """See `ProbeWorld.log_has`; a look searches a part of what is new, and the next goes on there."""
        position = self._positions.setdefault((replica, pattern), _LogPosition())
        if not position.found:
            target = self.runtime.log_target(service.name, replica)
            position.search(position.read_on(target), pattern)
        return position.found

    def _argv(self, service: Service, command: Command, replica: str) -> tuple[str, ...]:
        ports = self.runtime.ports_of(replica)
        match command:
            case ShellCommand(text):
                return ("/bin/sh", "-c", *self.surroundings.resolve(service, (text,), ports))
            case ArgvCommand(argv):
                return self.surroundings.resolve(service, argv, ports)
