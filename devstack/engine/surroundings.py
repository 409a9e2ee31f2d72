"""What replicas and prepare steps see of the stack: ports, environment, names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devstack.core import env
from devstack.core.env import OWN_PREFIX, Variable
from devstack.core.model import Endpoint, EngineProgram, Service, Stack
from devstack.core.policy import PORTS_PER_SLOT
from devstack.core.routes import Listen
from devstack.core.template import Reference, Template
from devstack.engine.addresses import LOOPBACK, AddressBook, Consumer, UnknownReference
from devstack.engine.covers import secrets_among
from devstack.engine.ports import Bindable, is_free, try_bind
from devstack.engines.base import EngineSpec
from devstack.gateway.listeners import holder_of
from devstack.runtimes.process.programs import CannotLaunch


@dataclass(slots=True)
class StackSurroundings:
    """Answers the process runtime's questions from the address book and the applied stack."""

    book: AddressBook
    stack: Stack | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of whoever ran `up` last."""
    _taken: dict[int, str] = field(default_factory=dict)
    """Port → replica that was given it and is not gone yet."""

    # ── ports ─────────────────────────────────────────────────────────────────────────────────

    def ports_for(self, replica: str, service: Service, slot: int) -> Mapping[str, int]:
        """See `Surroundings.ports_for`. Raises `CannotLaunch` when there is none for it."""
        chosen: dict[str, int] = {}
        for endpoint, ports in self.book.slot_ports(service, slot):
            free = next((p for p in ports if p not in self._taken and is_free(p)), None)
            if free is None:
                why = self._all_taken(ports)
                raise CannotLaunch(f"cannot start {service.name}: {why}", permanent=False)
            chosen[endpoint.name] = free
        for port in chosen.values():
            self._taken[port] = replica
        return chosen

    def hold_ports(self, replica: str, addresses: Iterable[tuple[str, str]]) -> None:
        """An adopted replica has these."""
        for _, literal in addresses:
            port = literal.rpartition(":")[2]
            if port.isdigit():
                self._taken[int(port)] = replica

    def release_ports(self, replica: str) -> None:
        """The replica is gone."""
        for port in [p for p, owner in self._taken.items() if owner == replica]:
            del self._taken[port]

    def _all_taken(self, ports: tuple[int, ...]) -> str:
        """Who has the ports that a replica could have got, and what would help."""
        if len(ports) > 1:
            told = ", ".join(f"{port} {self._taken_by(port)}".rstrip() for port in ports)
            return f"all ports of its slot are in use: {told}\nhint: stop what has one of them"
        if not ports:
            return (
                f"no ports are left: {PORTS_PER_SLOT} are kept for each slot, and the stacks that run "
                "have all of them\n"
                "hint: lower `replicas:` of other services, then run `devstack down` and `devstack up`"
            )
        (port,) = ports
        if try_bind(LOOPBACK, port) is Bindable.FORBIDDEN:
            return f"port {port} is {Bindable.FORBIDDEN}"
        return (
            f"port {port} is in use {self._taken_by(port)}".rstrip() + "\n"
            "hint: stop that; or have the program read $PORT, and write the port without 'fixed'"
        )

    def _taken_by(self, port: int) -> str:
        replica = self._taken.get(port)
        if replica is not None:
            return f"by {replica}"
        holder = holder_of(LOOPBACK, port)
        return f"by {holder.holder}" if holder is not None else ""

    # ── environment ───────────────────────────────────────────────────────────────────────────

    def variables(self, service: Service, ports: Mapping[str, int]) -> tuple[Variable, ...]:
        """See `Surroundings.variables`. Raises `CannotLaunch` for a reference to nothing."""
        try:
            return env.environment(
                service,
                self._current,
                shell=self.environment,
                assigned=self._assigned(service, ports),
                lookup=lambda reference: self._lookup(reference, service, ports),
            )
        except UnknownReference as error:
            raise CannotLaunch(f"cannot start {service.name}: {error}", permanent=True) from error

    def secrets_of(self, service: Service) -> tuple[str, ...]:
        """What must not be shown of the words of a service: its secret variables, its own password."""
        ports = self.book.usual_ports(service)
        try:
            variables = self.variables(service, ports)
        except CannotLaunch:
            variables = ()  # it refers to what is gone: nothing of it was started since
        if service.is_engine:
            variables = (*variables, Variable("PASSWORD", self.book.password(service), "stack"))
        return secrets_among(variables)

    def resolve(
        self, service: Service, texts: Iterable[Template], ports: Mapping[str, int]
    ) -> tuple[str, ...]:
        """See `Surroundings.resolve`. Raises `CannotLaunch` for a reference to nothing."""
        try:
            return tuple(
                text.resolve(lambda reference: self._lookup(reference, service, ports))
                for text in texts
            )
        except UnknownReference as error:
            raise CannotLaunch(f"cannot start {service.name}: {error}", permanent=True) from error

    def shell(self) -> Mapping[str, str]:
        """See `Surroundings.shell`."""
        return {n: v for n, v in self.environment.items() if not n.startswith(OWN_PREFIX)}

    def _assigned(self, service: Service, ports: Mapping[str, int]) -> dict[str, str]:
        main = service.main_endpoint
        if main is None or service.is_engine:
            return {}
        return {
            env.port_variable(service, name): str(port)
            for name, port in ports.items()
            if name != main.name or not main.fixed
        }

    def _lookup(self, reference: Reference, service: Service, ports: Mapping[str, int]) -> str:
        return self.book.lookup(reference, me=service, ports=dict(ports), consumer=Consumer.VIEW)

    # ── names ─────────────────────────────────────────────────────────────────────────────────

    def listen(self, name: str, endpoint: Endpoint) -> Listen:
        """See `Surroundings.listen`."""
        try:
            return self.book.listen(name, endpoint)
        except UnknownReference as error:
            raise CannotLaunch(f"cannot start {name}: {error}", permanent=False) from error

    def hosts_file(self) -> str | None:
        """See `Surroundings.hosts_file`."""
        return self.book.hosts_file() if self.stack is not None else None

    def engine_spec(self, service: Service) -> EngineSpec:
        """A database or broker with every value resolved."""
        program = service.program
        assert isinstance(program, EngineProgram)
        return EngineSpec(
            service=service.name,
            engine=program.engine,
            version=program.version,
            user=self.book.user(service),
            password=self.book.password(service),
            database=self.book.database(service),
            extensions=program.extensions,
            flags=program.flags,
            seeds=tuple(Path(seed) for seed in program.seed),
            jetstream=program.jetstream,
        )

    @property
    def _current(self) -> Stack:
        assert self.stack is not None, "the stack is looked at before it was applied"
        return self.stack
