"""Where a service is reached, by whom: the one place that turns an endpoint into an address.

With names (Linux, a mount namespace can be had) each service has a loopback address of its own, and
its name resolves to it in everything devstack starts. Without, or where one address cannot be bound,
it is 127.0.0.1 with an allocated port; injected variables fit either way.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from devstack.core.events import GatewayShape
from devstack.core.model import GATEWAY, Endpoint, EngineProgram, Scheme, Service, Stack
from devstack.core.routes import GatewayConfig, Listen, Route, Slots, Upstream
from devstack.core.shape import routing_key
from devstack.core.template import Reference
from devstack.engine.identity import Identity
from devstack.engine.ports import Bindable, is_free, try_bind

LOOPBACK = "127.0.0.1"

EngineUrl = Callable[[str, str, str, str, str, int], str]
"""(engine, user, password, database, host, port) → URL."""


class Consumer(StrEnum):
    """Who wants to reach an endpoint; container networks and clusters are further members."""

    HOST = "host"
    """A program of the user's, outside the stack: a browser, curl, a test."""
    VIEW = "view"
    """A replica in its own view of the machine, where names resolve."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a consumer dials an endpoint."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class UnknownReference(Exception):
    """A reference asks for something that its target does not have."""


def _key(service: str, endpoint: Endpoint, definition: Service) -> str:
    return routing_key(service, endpoint, definition)


class AddressBook:
    """Addresses of one stack. `assign` decides, everything else looks up."""

    def __init__(
        self,
        identity: Identity,
        memory: Path,
        *,
        names: bool,
        engine_url: EngineUrl,
        others: Callable[[], tuple[Identity, ...]],
    ) -> None:
        self._identity = identity
        self._others = others
        self._is_new_run = True
        """Nothing of this stack listens yet: what does is somebody else's."""
        self._memory = memory
        self._engine_url = engine_url
        self.names = names
        self._stack: Stack | None = None
        self._listens: dict[str, Listen] = {}
        self.gateway_listen: Listen | None = None
        self._fixed: dict[int, str] = {}
        """Number → the service that cannot be told another."""
        self._fallbacks: dict[str, str] = {}
        """Routing key → one line about an endpoint that could not have the address it should have."""
        self.saved = ""
        """What was written last."""

    # ── deciding ──────────────────────────────────────────────────────────────────────────────

    def recall(self) -> None:
        """Take the addresses of the run that is being adopted as they are."""
        self._is_new_run = False
        try:
            raw = json.loads(self._memory.read_text())
            listens = {key: Listen(*value) for key, value in raw["listens"].items()}
            gateway = Listen(*raw["gateway"]) if raw["gateway"] else None
            fallbacks = {str(key): str(line) for key, line in raw["fallbacks"].items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return  # none, or not ours: addresses are chosen as for a new run
        self._listens, self.gateway_listen, self._fallbacks = listens, gateway, fallbacks

    def assign(self, stack: Stack) -> None:
        """Give every endpoint of a stack its address; those that have one keep it."""
        self._stack = stack
        self._fixed = {
            endpoint.port: name
            for name, service in stack.services.items()
            for endpoint in service.endpoints
            if endpoint.fixed
        }
        self._identity.make_room(stack.services)
        if self._is_new_run:
            self._identity.keep_apart(self._others())
        wanted: dict[str, Listen] = {}
        for name, service in stack.services.items():
            if name == GATEWAY:
                continue
            for endpoint in service.endpoints:
                key = _key(name, endpoint, service)
                kept = self._listens.get(key)
                is_same = kept is not None and self._could_be(name, endpoint, key, kept)
                wanted[key] = (
                    kept if is_same and kept is not None else self._choose(name, endpoint, key)
                )
        self._listens = wanted
        self._fallbacks = {
            key: line
            for key, line in self._fallbacks.items()
            if key in wanted and wanted[key].address == LOOPBACK
        }
        if stack.gateway is None:
            self.gateway_listen = None
        elif not self._keeps_gateway(stack.gateway.port, stack.gateway.fixed):
            self.gateway_listen = self._choose_gateway(stack.gateway.port, stack.gateway.fixed)
        if self.gateway_listen is not None:
            self._listens[GATEWAY] = self.gateway_listen
        for service in stack.services.values():
            if service.is_engine:
                self.password(service)  # made now, so that it is kept before anybody is told
        self._is_new_run = False
        self._remember()

    def _could_be(self, name: str, endpoint: Endpoint, key: str, kept: Listen) -> bool:
        """Whether an address given before is one that `_choose` might give for this endpoint."""
        if endpoint.fixed:
            return kept == Listen(LOOPBACK, endpoint.port)
        is_own = kept == Listen(self._identity.host(name), endpoint.port)
        own = self.names and is_own and self._fixed.get(endpoint.port, name) == name
        return own or kept == Listen(LOOPBACK, self._identity.dialled.get(key, -1))

    def _choose(self, name: str, endpoint: Endpoint, key: str) -> Listen:
        if endpoint.fixed:
            return Listen(LOOPBACK, endpoint.port)
        if self.names:
            own = self._identity.host(name)
            obstacle = self._obstacle(name, own, endpoint.port)
            if not obstacle:
                return Listen(own, endpoint.port)
            port = self._dialled_port(name, key)
            self._fallbacks[key] = f"{name} is dialled at {LOOPBACK}:{port}: {obstacle}"
            return Listen(LOOPBACK, port)
        return Listen(LOOPBACK, self._dialled_port(name, key))

    def _obstacle(self, name: str, address: str, port: int) -> str:
        """Why a service cannot have a port on its own address; empty when it can.

        A program whose port is fixed mostly listens on every address, where it must find that number
        free on each.
        """
        owner = self._fixed.get(port, name)
        if owner != name:
            return f"port {port} is fixed for {owner}, which may listen on every address"
        verdict = try_bind(address, port)
        if verdict is Bindable.YES:
            return ""
        return f"port {port} on its own address is {verdict}"

    def _dialled_port(self, name: str, key: str) -> int:
        """The port of the checkout; another one when it is taken as a run begins, which is told."""
        had = self._identity.dialled.get(key)
        is_lost = had is not None and (had in self._identity.of_others or not is_free(had))
        if not self._is_new_run or not is_lost:
            return self._identity.dialled_port(key, self._is_free)
        del self._identity.dialled[key]
        port = self._identity.dialled_port(key, self._is_free)
        self._fallbacks[key] = (
            f"{name} is now dialled at {LOOPBACK}:{port}: {had}, which it had, is in use"
        )
        return port

    def _is_free(self, port: int) -> bool:
        return port not in self._fixed and is_free(port)

    def _keeps_gateway(self, port: int, fixed: bool) -> bool:
        kept = self.gateway_listen
        if kept is None:
            return False
        return kept.port == port or (not fixed and kept.port == self._identity.gateway_port)

    def _choose_gateway(self, port: int, fixed: bool) -> Listen:
        if fixed or try_bind(LOOPBACK, port) is Bindable.YES:
            return Listen(LOOPBACK, port)
        own = self._identity.gateway_port
        if own is None or own in self._identity.of_others or not is_free(own):
            self._identity.dialled.pop(GATEWAY, None)
            self._identity.gateway_port = self._identity.dialled_port(GATEWAY, self._is_free)
        assert self._identity.gateway_port is not None
        return Listen(LOOPBACK, self._identity.gateway_port)

    def move_gateway(self) -> bool:
        """Give the gateway another port, since somebody took the one it had between test and bind.

        False when the stack file insists on its number.
        """
        gateway = self._current.gateway
        if gateway is None or gateway.fixed:
            return False
        self._identity.dialled.pop(GATEWAY, None)
        self._identity.gateway_port = self._identity.dialled_port(GATEWAY, self._is_free)
        self.gateway_listen = Listen(LOOPBACK, self._identity.gateway_port)
        self._listens[GATEWAY] = self.gateway_listen
        self._remember()
        return True

    def _remember(self) -> None:
        with contextlib.suppress(OSError):  # `save` is called again, by whoever can tell it
            self.save()

    def save(self) -> None:
        """For a later controller: the addresses of this run, when something is new. Raises OSError."""
        gateway = self.gateway_listen
        content = {
            "listens": {k: [v.address, v.port] for k, v in self._listens.items()},
            "gateway": [gateway.address, gateway.port] if gateway is not None else None,
            "fallbacks": self._fallbacks,
        }
        text = json.dumps(content)
        if text == self.saved:
            return
        temporary = self._memory.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(self._memory)
        self.saved = text

    # ── looking up ────────────────────────────────────────────────────────────────────────────

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each endpoint that could not have the address it should have."""
        return tuple(self._fallbacks.values())

    @property
    def _current(self) -> Stack:
        assert self._stack is not None, "addresses are looked up before they are assigned"
        return self._stack

    def listen(self, name: str, endpoint: Endpoint) -> Listen:
        """The literal address an endpoint is dialled at on this machine. Raises `UnknownReference`."""
        listen = self._listens.get(_key(name, endpoint, self._service(name)))
        if listen is None:
            raise UnknownReference(f"{name} has no endpoint {endpoint.name} any more")
        return listen

    def _service(self, name: str) -> Service:
        """Whoever looks up may have been started with a stack in which it was still there."""
        service = self._current.services.get(name)
        if service is None:
            raise UnknownReference(f"{name} is no longer in the stack file")
        return service

    def resolve(self, name: str, endpoint: Endpoint, consumer: Consumer) -> Address:
        """Where `consumer` dials an endpoint."""
        listen = self.listen(name, endpoint)
        is_own = listen.address != LOOPBACK or endpoint.fixed
        has_name = self.names and is_own and listen.address == self._address_of_name(name)
        if consumer is Consumer.VIEW and has_name:
            return Address(name, listen.port)
        return Address(listen.address, listen.port)

    def _address_of_name(self, name: str) -> str:
        """What a service's name resolves to: its own address where any of its ports could have it.

        A port that is elsewhere (fixed beside others, or fallen back) is dialled by number.
        """
        service = self._service(name)
        addresses = [self.listen(name, endpoint).address for endpoint in service.endpoints]
        return next((address for address in addresses if address != LOOPBACK), LOOPBACK)

    def url(self, name: str, consumer: Consumer, endpoint: str | None = None) -> str | None:
        """The URL of a service for a consumer; None when it has no endpoint."""
        service = self._current.services.get(name)
        if service is None:
            return None  # asked between `assign` and the State's own taking note of a new file
        if not service.endpoints:
            return self.gateway_url() if name == GATEWAY else None
        found = self._endpoint(service, endpoint)
        address = self.resolve(name, found, consumer)
        if isinstance(service.program, EngineProgram) and name != GATEWAY:
            program = service.program
            return self._engine_url(
                program.engine,
                self.user(service),
                self.password(service),
                self.database(service),
                address.host,
                address.port,
            )
        return f"{found.scheme}://{address}"

    def gateway_url(self) -> str | None:
        """The public URL of the stack."""
        listen = self.gateway_listen
        return f"http://{listen.address}:{listen.port}" if listen is not None else None

    def user(self, service: Service) -> str:
        """The user a database is used as; empty where the server asks nobody who they are."""
        program = service.program
        assert isinstance(program, EngineProgram)
        return program.user or ""

    def database(self, service: Service) -> str:
        """The name of the database in its server."""
        program = service.program
        assert isinstance(program, EngineProgram)
        return program.database or service.name.replace("-", "_")

    def password(self, service: Service) -> str:
        """The password of a database: as the file says, else generated for the checkout."""
        program = service.program
        assert isinstance(program, EngineProgram)
        if program.password is not None:
            return str(program.password)
        if not program.user:
            return ""
        return self._identity.password(service.name)

    def _endpoint(self, service: Service, name: str | None) -> Endpoint:
        for endpoint in service.endpoints:
            if name is None or endpoint.name == name:
                return endpoint
        raise UnknownReference(f"{service.name} has no endpoint {name or ''}".rstrip())

    def lookup(
        self, reference: Reference, *, me: Service, ports: dict[str, int], consumer: Consumer
    ) -> str:
        """The text of a reference in a replica of `me` whose own ports are `ports`.

        Raises `UnknownReference` when there is no such target, or it has no such field.
        """
        if reference.service == "self":
            return self._own(reference, me, ports)
        service = self._service(reference.service)
        if reference.field in ("user", "password", "database", "dsn") and not service.is_engine:
            raise UnknownReference(f"{reference} asks a {service.kind} for a {reference.field}")
        match reference.field:
            case "user":
                return self.user(service)
            case "password":
                return self.password(service)
            case "database":
                return self.database(service)
            case "url" | "dsn":
                url = self.url(service.name, consumer, reference.endpoint)
                if url is None:
                    raise UnknownReference(f"{reference}: {service.name} has no port")
                return url
        address = self.resolve(service.name, self._endpoint(service, reference.endpoint), consumer)
        match reference.field:
            case "host":
                return address.host
            case "port":
                return str(address.port)
            case "address":
                return str(address)
        raise UnknownReference(f"{reference}: there is no field {reference.field}")

    def _own(self, reference: Reference, me: Service, ports: dict[str, int]) -> str:
        if reference.field == "host":
            return LOOPBACK
        if reference.field == "password":
            return self.password(me)
        endpoint = self._endpoint(me, reference.endpoint)
        port = ports[endpoint.name]
        match reference.field:
            case "port":
                return str(port)
            case "address":
                return f"{LOOPBACK}:{port}"
            case "url":
                return f"{endpoint.scheme}://{LOOPBACK}:{port}"
        raise UnknownReference(f"{reference}: there is no field {reference.field}")

    # ── for replicas and NGINX ────────────────────────────────────────────────────────────────

    def hosts_file(self) -> str | None:
        """The private /etc/hosts of everything devstack starts; None where names cannot be had."""
        if not self.names:
            return None
        lines = [
            f"{self._address_of_name(name)} {name}"
            for name, service in self._current.services.items()
            if service.endpoints
        ]
        # resolvers take the first match: a name of the stack wins over the machine's own file
        lines += ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        with contextlib.suppress(OSError):
            lines.append(Path("/etc/hosts").read_text().rstrip("\n"))
        return "\n".join(lines) + "\n"

    def dialled_numbers(self) -> frozenset[int]:
        """Numbers that somebody dials: a replica's own port must equal none (wildcard listeners)."""
        numbers = {listen.port for listen in self._listens.values()}
        numbers |= {p.port for s in self._current.services.values() for p in s.endpoints}
        if self.gateway_listen is not None:
            numbers.add(self.gateway_listen.port)
        return frozenset(numbers)

    def slot_ports(self, service: Service, slot: int) -> Iterator[tuple[Endpoint, tuple[int, ...]]]:
        """For each endpoint, the ports a replica in a slot may listen on."""
        avoid = self.dialled_numbers()
        for endpoint in service.endpoints:
            if endpoint.fixed:
                yield endpoint, (endpoint.port,)
                continue
            suffix = "" if endpoint == service.main_endpoint else f"/{endpoint.name}"
            yield endpoint, self._identity.slot_ports(f"{service.name}.{slot}{suffix}", avoid)

    def usual_ports(self, service: Service) -> dict[str, int]:
        """Endpoint name → the port of a replica in slot 1, as far as can be told; 0 where none is left."""
        return {p.name: next(iter(numbers), 0) for p, numbers in self.slot_ports(service, 1)}

    def gateway_config(self, shape: GatewayShape) -> GatewayConfig:
        """A gateway shape with addresses: what is rendered for NGINX."""
        stack = self._current
        services: list[Slots] = []
        for name, count in shape.slots:
            service = stack.services[name]
            by_slot = [dict(_named(self.slot_ports(service, slot))) for slot in range(1, count + 1)]
            services.extend(
                Slots(
                    service=name,
                    key=_key(name, endpoint, service),
                    upstream=Upstream.TCP if endpoint.scheme is Scheme.TCP else Upstream.HTTP,
                    listens=(self.listen(name, endpoint),),
                    ports=tuple(ports[endpoint.name] for ports in by_slot),
                )
                for endpoint in service.balanced_endpoints
            )
        return GatewayConfig(
            stack=stack.name,
            public=(self.gateway_listen,) if shape.public and self.gateway_listen else (),
            routes=tuple(Route(*route) for route in shape.routes),
            services=tuple(services),
            direct=tuple((key, f"{LOOPBACK}:{port}") for key, port in shape.fixed),
        )


def _named(
    pairs: Iterator[tuple[Endpoint, tuple[int, ...]]],
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for endpoint, ports in pairs:
        yield endpoint.name, ports
