"""Databases and the broker: their data folder is the artifact, their server the replica."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devstack.core.env import Variable
from devstack.core.events import Artifact
from devstack.core.model import EngineProgram, Service
from devstack.engines.base import DataFolder, EngineProblem, EngineSpec, Site, Unprivileged
from devstack.engines.registry import ENGINES
from devstack.provision import find_tool
from devstack.provision.tool import Settings, ToolUnavailable
from devstack.runtimes.base import PrepareFailed, StartOrder
from devstack.runtimes.process.programs import CannotLaunch, Launch, Surroundings
from devstack.runtimes.process.steps import KeeperSteps
from devstack.steps import StepFailed


@dataclass(slots=True)
class ServerPrograms:
    """See the module's docstring."""

    surroundings: Surroundings
    settings: Settings
    folder: Path
    """The checkout's `.devstack`."""
    stack_id: str
    spec_of: Callable[[Service], EngineSpec]
    unprivileged: Callable[[], Unprivileged]
    _data: dict[str, DataFolder] = field(default_factory=dict)

    async def prepare(self, service: Service, revision: str, steps: KeeperSteps) -> Artifact:
        """Find or bring the server, make the data folder. Raises `PrepareFailed`."""
        del revision  # data belongs to the service, not to a revision of it
        program = _program(service)
        engine = ENGINES[program.engine]
        site = Site(
            data=self.folder / "data" / service.name,
            templates=self.settings.cache / "templates",
            unprivileged=self.unprivileged(),
            stack_id=self.stack_id,
        )
        try:
            tool = await find_tool(
                engine.tool, wanted=program.version, steps=steps, settings=self.settings
            )
            data = await engine.prepare(self.spec_of(service), site, tool, steps)
        except (EngineProblem, ToolUnavailable) as error:
            hint = f"\nhint: {error.hint}" if error.hint else ""
            raise PrepareFailed(f"{error}{hint}") from error
        except StepFailed as error:
            raise PrepareFailed(str(error)) from error
        self._data[service.name] = data
        return Artifact(
            digest=data.data_id,
            data_id=data.data_id,
            notes=(f"{tool.product} {tool.version} ({tool.origin})",),
            warnings=(*tool.notes, *data.notes),
        )

    async def source_digest(self, service: Service) -> str:
        """Seeds are loaded once for each data folder, so they are no source."""
        del service
        return ""

    async def launch(self, order: StartOrder, steps: KeeperSteps) -> Launch:
        """The server's command on its own address."""
        service = order.service
        data = self._data.get(service.name)
        if data is None:
            try:
                await self.prepare(service, order.revision, steps)
            except PrepareFailed as error:
                raise CannotLaunch(str(error), permanent=False) from error
            data = self._data[service.name]
        program = _program(service)
        endpoint = service.endpoints[0]
        listen = self.surroundings.listen(service.name, endpoint)
        engine = ENGINES[program.engine]
        engine.clear_leftovers(data)
        command = engine.command(self.spec_of(service), data, listen.address, listen.port)
        return Launch(
            argv=command.argv,
            env={**self.surroundings.shell(), **command.env},
            cwd=str(command.cwd),
            addresses=((endpoint.name, f"{listen.address}:{listen.port}"),),
            run_as=command.run_as,
            stop_signal=command.stop_signal,
        )

    def variables(
        self, service: Service, revision: str, ports: Mapping[str, int]
    ) -> tuple[Variable, ...]:
        """A server has the shell's; what its engine adds it needs to find its own files."""
        del service, revision, ports
        return tuple(Variable(n, v, "shell") for n, v in sorted(self.surroundings.shell().items()))

    def release(self, replica: str) -> None:
        """Nothing is held for a replica here."""

    def forget(self, service: str) -> None:
        """The data folder was removed."""
        self._data.pop(service, None)


def _program(service: Service) -> EngineProgram:
    assert isinstance(service.program, EngineProgram), f"{service.name} is no server"
    return service.program
