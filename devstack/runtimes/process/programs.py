"""What the process runtime asks of a kind of program: make its artifact, say how it is launched.

Sources (packs), database servers (engines) and NGINX differ in nothing else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from devstack.core.env import Variable
from devstack.core.events import Artifact
from devstack.core.model import Endpoint, Service
from devstack.core.routes import Listen
from devstack.core.template import Template
from devstack.runtimes.base import StartOrder
from devstack.runtimes.process.steps import KeeperSteps
from devstack.steps import RunAs


@dataclass(frozen=True, slots=True)
class Launch:
    """A replica's command line, ready to be started."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    addresses: tuple[tuple[str, str], ...] = ()
    """Endpoint name → literal address where it will listen."""
    run_as: RunAs = "same"
    stop_signal: int | None = None
    """Overrides the service's, where a server has a signal of its own for a clean end."""
    warnings: tuple[str, ...] = ()
    """What a user should know about this start, such as a variable that lost to another."""


class CannotLaunch(Exception):
    """There is no way to start the replica now; the message is for people."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class Surroundings(Protocol):
    """What a program must know of the stack around it; the engine's address book answers."""

    def ports_for(self, replica: str, service: Service, slot: int) -> Mapping[str, int]:
        """Endpoint name → the port a new replica gets: the first on which nothing listens."""
        ...

    def variables(self, service: Service, ports: Mapping[str, int]) -> tuple[Variable, ...]:
        """The environment of a replica with these ports. Raises `CannotLaunch`."""
        ...

    def resolve(
        self, service: Service, texts: Iterable[Template], ports: Mapping[str, int]
    ) -> tuple[str, ...]:
        """Templates as texts, as the replica sees the stack."""
        ...

    def listen(self, name: str, endpoint: Endpoint) -> Listen:
        """The literal address an endpoint is dialled at. Raises `CannotLaunch`: it has none any more."""
        ...

    def hosts_file(self) -> str | None:
        """The private hosts file, None where names cannot be had."""
        ...

    def shell(self) -> Mapping[str, str]:
        """The environment of whoever ran `up`, less devstack's own variables."""
        ...

    def release_ports(self, replica: str) -> None:
        """The replica is gone: its ports may be given to others."""
        ...


class Programs(Protocol):
    """One kind of program."""

    async def prepare(self, service: Service, revision: str, steps: KeeperSteps) -> Artifact:
        """Make the artifact; cheap where it is there. Raises `PrepareFailed`."""
        ...

    async def source_digest(self, service: Service) -> str:
        """Digest of the source now; empty where there is none."""
        ...

    async def launch(self, order: StartOrder, steps: KeeperSteps) -> Launch:
        """How to start a replica. Raises `CannotLaunch`."""
        ...

    def variables(
        self, service: Service, revision: str, ports: Mapping[str, int]
    ) -> tuple[Variable, ...]:
        """Each variable a replica of a revision has, with its origin. Raises `CannotLaunch`."""
        ...

    def release(self, replica: str) -> None:
        """The replica is gone."""
        ...
