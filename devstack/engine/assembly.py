"""The parts of one stack's engine, put together: which object is given which.

Nothing happens here; `session` brings it to life.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from devstack.core.model import RuntimeName
from devstack.core.state import State
from devstack.engine import identity as identities
from devstack.engine.addresses import AddressBook
from devstack.engine.board import Board
from devstack.engine.endings import Endings
from devstack.engine.folders import Folders
from devstack.engine.gateway import NginxGateway
from devstack.engine.identity import Identity
from devstack.engine.neighbours import identities_of_others
from devstack.engine.operations import Operations, Prober
from devstack.engine.ports import are_free, ephemeral_ports
from devstack.engine.probes.prober import ReplicaProber
from devstack.engine.surroundings import StackSurroundings
from devstack.engine.world import ProcessWorld
from devstack.engines.base import EngineSpec, Unprivileged
from devstack.engines.registry import ENGINES
from devstack.keeper.places import Places
from devstack.keeper.starting import Starting
from devstack.provision.tool import Settings
from devstack.runtimes.base import ReplicaRuntime
from devstack.runtimes.fake import FakeProber, FakeReplicas, FakeWorkloads
from devstack.runtimes.process.link import KeeperLink
from devstack.runtimes.process.programs import Programs
from devstack.runtimes.process.runtime import ProcessRuntime
from devstack.runtimes.process.servers import ServerPrograms
from devstack.runtimes.process.sources import SourcePrograms


@dataclass(slots=True)
class Engine:
    """All parts of one stack."""

    link: KeeperLink
    identity: Identity
    book: AddressBook
    surroundings: StackSurroundings
    sources: SourcePrograms
    servers: ServerPrograms
    nginx: NginxGateway
    runtime: ProcessRuntime
    operations: Operations
    fake: FakeReplicas

    def use_settings(self, settings: Settings) -> None:
        """Provisioning goes by the environment of whoever ran `up` last."""
        self.sources.settings = settings
        self.servers.settings = settings
        self.nginx.settings = settings


def engine_url(engine: str, user: str, password: str, database: str, host: str, port: int) -> str:
    """The URL of a database or broker, as its own scheme writes it."""
    spec = EngineSpec(service="", engine=engine, user=user, password=password, database=database)
    return ENGINES[engine].url(spec, host, port)


def assemble(
    places: Places,
    folders: Folders,
    stack_file: Path,
    settings: Settings,
    board: Board,
    *,
    open_files: int | None,
    starting: Starting | None,
    notice: Callable[[str, str], None],
    state: Callable[[], State],
) -> Engine:
    """Put the engine of a stack together."""
    known = identities.load(folders.identity)
    identity = known or identities.choose(
        places.stack_id, partial(are_free, ephemeral=ephemeral_ports())
    )
    link = KeeperLink(places, open_files=open_files, notice=notice, starting=starting)
    book = AddressBook(
        identity,
        folders.addresses,
        names=False,
        engine_url=engine_url,
        others=lambda: identities_of_others(places),
    )
    surroundings = StackSurroundings(book)
    runtime = ProcessRuntime(
        link=link,
        surroundings=surroundings,
        programs={},
        folder=folders.root,
        stack_folder=stack_file.parent,
        tell=board.report,
        notice=notice,
    )
    sources = SourcePrograms(surroundings, settings, folders.root, stack_file.parent)
    servers = ServerPrograms(
        surroundings,
        settings,
        folders.root,
        places.stack_id,
        surroundings.engine_spec,
        lambda: unprivileged_way(link.client.capabilities.unprivileged),
    )
    nginx = NginxGateway(book, link, settings, surroundings, folders.gateway, state, runtime.steps)
    programs: dict[str, Programs] = {"source": sources, "nginx": nginx}
    programs.update(dict.fromkeys(ENGINES, servers))
    runtime.programs = programs
    prober = ReplicaProber(ProcessWorld(runtime, surroundings, nginx))
    fake = FakeReplicas()
    replicas: dict[RuntimeName, ReplicaRuntime] = {
        RuntimeName.PROCESS: runtime,
        RuntimeName.FAKE: fake,
    }
    probers: dict[RuntimeName, Prober] = {
        RuntimeName.PROCESS: prober,
        RuntimeName.FAKE: FakeProber(fake),
    }
    operations = Operations(
        replicas=replicas,
        workloads={RuntimeName.FAKE_WORKLOAD: FakeWorkloads()},
        probers=probers,
        gateway=nginx,
        jitter=lambda: random.uniform(-1.0, 1.0),  # noqa: S311 - spreads retries, no secret
        on_end=Endings(folders.logs, lambda: link.run_id, state, surroundings.secrets_of).complete,
    )
    return Engine(
        link, identity, book, surroundings, sources, servers, nginx, runtime, operations, fake
    )


def unprivileged_way(told: str) -> Unprivileged:
    """The keeper's word on servers that refuse root, as engines know it."""
    match told:
        case "user namespace":
            return "user namespace"
        case "nobody":
            return "nobody"
        case _:
            return "not needed"
