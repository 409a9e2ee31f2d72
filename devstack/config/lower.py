"""From what people wrote to the Stack: defaults, what fits together, and where files are.

Nothing of the project is executed or imported; folders and files it names are only looked at.
What dependencies and references refer to is asked in `names`, once everything is lowered.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from devstack.config.dotenv import read_env_file
from devstack.config.presets import (
    DEFAULT_USER,
    GATEWAY_ENGINE,
    GATEWAY_PORT,
    PRESETS,
    SERVICE_PORT,
    database_name,
)
from devstack.config.problems import Place, Report, did_you_mean
from devstack.config.schema import (
    BrokerSection,
    DatabaseSection,
    FixedPort,
    GatewaySection,
    NamedPort,
    ProbeSection,
    RouteSection,
    ServerSection,
    ServiceSection,
    StackFile,
    StopSection,
)
from devstack.config.source import Items, Node, Scalar, Section
from devstack.config.validate import Checked
from devstack.core.model import (
    GATEWAY,
    ArgvCommand,
    Check,
    Command,
    Condition,
    Dependency,
    Endpoint,
    EngineProgram,
    ExecProbe,
    FakeProgram,
    Gateway,
    HttpProbe,
    Kind,
    ListenProbe,
    LogProbe,
    Probe,
    Program,
    QueryProbe,
    Restart,
    RuntimeName,
    Scheme,
    Service,
    ShellCommand,
    SourceProgram,
    Stop,
    TcpProbe,
    Update,
    UptimeProbe,
)
from devstack.core.routes import Route
from devstack.core.template import Template

_SEED_SUFFIXES: Final = (".sql", ".sql.gz", ".js", ".sh")
_FAKES: Final = (RuntimeName.FAKE, RuntimeName.FAKE_WORKLOAD)


@dataclass(slots=True)
class Lowered:
    """The services of a stack file, and what else was found on the way."""

    services: dict[str, Service] = field(default_factory=dict)
    gateway: Gateway | None = None
    env_files: list[Path] = field(default_factory=list)


def lower(
    checked: Checked, tree: Section, folder: Path, known: Collection[str], report: Report
) -> Lowered:
    """Lower everything that could be read; what does not fit is reported and left out."""
    lowering = _Lowering(checked, tree, folder, known, report)
    file = checked.file
    for name, service in file.services.items():
        lowering.result.services.setdefault(name, lowering.service(name, service))
    for name, database in file.databases.items():
        lowering.result.services.setdefault(name, lowering.database(name, database))
    for name, broker in file.broker.items():
        lowering.result.services.setdefault(name, lowering.broker(name, broker))
    lowering.check_fixed_ports(file)
    lowering.add_gateway(file)
    return lowering.result


class _Lowering:
    def __init__(
        self,
        checked: Checked,
        tree: Section,
        folder: Path,
        known: Collection[str],
        report: Report,
    ) -> None:
        self.result = Lowered()
        self._known = known
        self._damaged = checked.damaged
        self._tree = tree
        self._folder = folder
        self._report = report
        self._roots = [folder]
        for service in checked.file.services.values():
            if service.source is not None:
                self._roots.append(_resolved(folder, service.source))

    # --- one service -------------------------------------------------------------------------

    def service(self, name: str, written: ServiceSection) -> Service:
        at = self._section("services", name)
        is_job = written.kind is Kind.JOB
        if is_job:
            self._check_job(at, written)
        endpoints = self._endpoints(at, written)
        is_fixed = any(endpoint.fixed for endpoint in endpoints)
        if is_fixed and written.replicas > 1:
            self._report.error(
                at.key_place("replicas"),
                f"'replicas' cannot be {written.replicas}: its port is fixed, and only one "
                "program can listen on it",
                "have the program read $PORT and write the port without 'fixed'",
            )
        if is_fixed and written.update is Update.ROLLING:
            self._report.error(
                at.key_place("update"),
                "'update' cannot be 'rolling': its port is fixed, and only one program can "
                "listen on it",
            )
        default_ready: Probe = ListenProbe() if endpoints else UptimeProbe()
        ready = self._check(at, "ready", written.ready, endpoints) or Check(default_ready)
        if written.alive is not None and written.alive.log is not None:
            self._report.error(
                at.key_place("alive"),
                "'alive' cannot be a log line: one that was written stays written",
            )
        restart = Restart.NEVER if is_job else Restart.ON_FAILURE
        return Service(
            name=name,
            kind=written.kind,
            program=self._program(name, at, written),
            runtime=written.run,
            replicas=written.replicas,
            endpoints=endpoints,
            depends_on=self._dependencies(written),
            environment=tuple(written.environment.items()),
            env_file=self._env_files(at, written.env_file),
            restart=written.restart or restart,
            update=written.update or (Update.RECREATE if is_fixed else Update.ROLLING),
            stop=_stop(written.stop, Stop()),
            startup=self._check(at, "startup", written.startup, endpoints),
            ready=ready,
            alive=self._check(at, "alive", written.alive, endpoints),
            start_timeout_seconds=written.start_timeout,
            where=self._where("services", name),
        )

    def _check_job(self, at: Section, written: ServiceSection) -> None:
        for key in ("port", "ports", "ready", "alive", "startup", "update"):
            if key in written.model_fields_set:
                self._report.error(
                    at.key_place(key), f"a job has no '{key}'", "a job runs once and ends"
                )
        if written.replicas != 1:
            self._report.error(at.key_place("replicas"), "a job has one replica")
        if written.restart not in (None, Restart.NEVER):
            self._report.error(
                at.key_place("restart"), "a job is not restarted", "leave 'restart' out"
            )

    def _program(self, name: str, at: Section, written: ServiceSection) -> Program:
        if written.run in _FAKES:
            for key in ("source", "command", "main"):
                if key in written.model_fields_set:
                    self._report.error(
                        at.key_place(key), f"'{key}' has no meaning with 'run: {written.run}'"
                    )
            return FakeProgram(written.script or "")
        if written.script is not None:
            self._report.error(at.key_place("script"), "'script' is for 'run: fake'")
        if written.source is None and written.command is None and name not in self._damaged:
            self._report.error(
                self._key_place("services", name), f"'{name}' needs 'source' or 'command'"
            )
        if written.main is not None and written.source is None:
            self._report.error(at.key_place("main"), "'main' needs a 'source' to be found in")
        source = None
        if written.source is not None:
            path = _resolved(self._folder, written.source)
            if not _is_folder(path):
                reason = "is not a folder" if _exists(path) else "does not exist"
                self._report.error(_place(at, "source"), f"the source '{written.source}' {reason}")
            source = str(path)
        return SourceProgram(source, _command(written.command), written.main)

    def _endpoints(self, at: Section, written: ServiceSection) -> tuple[Endpoint, ...]:
        if written.kind is Kind.JOB:
            return ()
        has_port = "port" in written.model_fields_set
        if has_port and written.ports:
            self._report.error(
                at.key_place("ports"), "'port' and 'ports' cannot both be there", "keep 'ports'"
            )
        if written.ports:
            ports = at.get("ports")
            assert isinstance(ports, Section)
            return tuple(self._named_ports(ports, written))
        match written.port:
            case FixedPort(fixed=number):
                return (Endpoint(str(written.scheme), number, written.scheme, fixed=True),)
            case None if has_port:
                return ()
            case number:
                return (Endpoint(str(written.scheme), number or SERVICE_PORT, written.scheme),)

    def _named_ports(self, at: Section, written: ServiceSection) -> list[Endpoint]:
        endpoints: list[Endpoint] = []
        for name, word in written.ports.items():
            if isinstance(word, NamedPort):
                if (word.port is None) == (word.fixed is None):
                    self._report.error(
                        at.key_place(name), f"the port '{name}' needs either 'port' or 'fixed'"
                    )
                number = word.port or word.fixed or SERVICE_PORT
                scheme = word.scheme or written.scheme
                endpoint = Endpoint(name, number, scheme, fixed=word.fixed is not None)
            else:
                endpoint = Endpoint(name, word, written.scheme)
            for other in endpoints:
                if other.port == endpoint.port:
                    self._report.error(
                        at.key_place(name),
                        f"the ports '{other.name}' and '{name}' are both {endpoint.port}",
                    )
            endpoints.append(endpoint)
        return endpoints

    def _dependencies(self, written: ServiceSection) -> tuple[Dependency, ...]:
        """`names` turns READY into COMPLETED for the jobs of a list."""
        if isinstance(written.depends_on, dict):
            return tuple(
                Dependency(name, Condition(word)) for name, word in written.depends_on.items()
            )
        names = dict.fromkeys(written.depends_on)
        return tuple(Dependency(name, Condition.READY) for name in names)

    def _env_files(self, at: Section, written: str | list[str]) -> tuple[tuple[str, str], ...]:
        values: dict[str, str] = {}
        for text, place in _paths(written, at.get("env_file")):
            path = self._contained(text, place, "env_file")
            if path is None:
                continue
            if path not in self.result.env_files:
                self.result.env_files.append(path)
            shown = (
                str(path.relative_to(self._folder)) if path.is_relative_to(self._folder) else text
            )
            for name, value in read_env_file(path, shown, self._report).items():
                values.pop(name, None)
                values[name] = value
        return tuple(values.items())

    # --- probes ------------------------------------------------------------------------------

    def _check(
        self, at: Section, key: str, written: ProbeSection | None, endpoints: tuple[Endpoint, ...]
    ) -> Check | None:
        if written is None or self._is_job(at):
            return None
        probe = self._probe(at, key, written, endpoints)
        return None if probe is None else _timed(probe, written)

    def _probe(
        self, at: Section, key: str, written: ProbeSection, endpoints: tuple[Endpoint, ...]
    ) -> Probe | None:
        place = at.key_place(key)
        asked = [
            word
            for word in ("http", "tcp", "exec", "log", "query")
            if getattr(written, word) not in (None, False)
        ]
        if len(asked) != 1:
            # A question that could not be read was told already.
            if asked or self._name_of(at) not in self._damaged:
                found = f", not {' and '.join(asked)}" if asked else ""
                self._report.error(place, f"'{key}' needs one of http, tcp, exec and log{found}")
            return None
        if written.query:
            self._report.error(
                place, f"'{key}' cannot be a query: only databases and brokers answer one"
            )
            return None
        if written.port is not None and asked[0] not in ("http", "tcp"):
            self._report.error(place, f"'{key}.port' goes with http and tcp only")
        if written.exec is not None:
            command = _command(written.exec)
            assert command is not None
            return ExecProbe(command)
        if written.log is not None:
            return LogProbe(written.log)
        if not endpoints and self._name_of(at) not in self._damaged:
            self._report.error(place, f"'{key}' cannot ask {asked[0]}: the service has no port")
            return None
        endpoint = self._asked_endpoint(at, key, written.port, endpoints)
        return TcpProbe(endpoint) if written.http is None else HttpProbe(written.http, endpoint)

    def _asked_endpoint(
        self, at: Section, key: str, port: str | None, endpoints: tuple[Endpoint, ...]
    ) -> str | None:
        if port is None:
            return None
        for endpoint in endpoints:
            if port in (endpoint.name, str(endpoint.port)):
                return endpoint.name
        section = at.get(key)
        place = _place(section, "port") if isinstance(section, Section) else at.place
        known = ", ".join(f"{e.name} ({e.port})" for e in endpoints)
        self._report.error(place, f"the service has no port '{port}'", f"its ports: {known}")
        return None

    # --- databases and brokers ---------------------------------------------------------------

    def database(self, name: str, written: DatabaseSection) -> Service:
        at = self._section("databases", name)
        if written.extensions and not PRESETS[written.engine].has_extensions:
            self._report.error(
                at.key_place("extensions"), f"'extensions' are for postgres, not {written.engine}"
            )
        program = EngineProgram(
            engine=written.engine,
            version=written.version,
            user=written.user or DEFAULT_USER,
            password=written.password,
            database=written.database or database_name(name),
            extensions=tuple(written.extensions),
            flags=tuple(written.flags),
            seed=self._seeds(at, written.seed),
        )
        return self._server("databases", name, written, written.engine, program)

    def broker(self, name: str, written: BrokerSection) -> Service:
        at = self._section("broker", name)
        if written.password is not None and written.user is None:
            self._report.error(at.key_place("password"), "'password' needs a 'user'")
        program = EngineProgram(
            engine=written.engine,
            version=written.version,
            user=written.user,
            password=written.password,
            flags=tuple(written.flags),
            jetstream=written.jetstream,
        )
        return self._server("broker", name, written, written.engine, program)

    def _server(
        self, section: str, name: str, written: ServerSection, engine: str, program: EngineProgram
    ) -> Service:
        preset = PRESETS[engine]
        at = self._section(section, name)
        if written.run in _FAKES:
            self._report.error(_place(at, "run"), f"'run' cannot be '{written.run}' here")
        ready = Check(QueryProbe())
        if written.ready is not None:
            if any((written.ready.http, written.ready.tcp, written.ready.exec, written.ready.log)):
                self._report.error(
                    at.key_place("ready"),
                    f"'ready' of {engine} is always a query",
                    "interval, timeout, failures and successes can be set",
                )
            ready = _timed(QueryProbe(), written.ready)
        return Service(
            name=name,
            kind=preset.kind,
            program=program,
            endpoints=(Endpoint("tcp", written.port or preset.port, Scheme.TCP),),
            # A server that somebody ended by hand is wanted all the same.
            restart=written.restart or Restart.ALWAYS,
            update=Update.RECREATE,
            stop=_stop(written.stop, preset.stop),
            ready=ready,
            start_timeout_seconds=written.start_timeout,
            where=self._where(section, name),
        )

    def _seeds(self, at: Section, written: str | list[str]) -> tuple[str, ...]:
        seeds: list[str] = []
        for text, place in _paths(written, at.get("seed")):
            path = self._contained(text, place, "seed")
            if path is None:
                continue
            if not _is_folder(path) and not path.name.endswith(_SEED_SUFFIXES):
                self._report.error(
                    place,
                    f"the seed '{text}' is none of {' '.join(_SEED_SUFFIXES)}",
                )
            seeds.append(str(path))
        return tuple(seeds)

    # --- the gateway -------------------------------------------------------------------------

    def add_gateway(self, file: StackFile) -> None:
        written = file.gateway
        services = self.result.services
        if written is not None:
            self.result.gateway = Gateway(
                port=_number(written.port),
                fixed=isinstance(written.port, FixedPort),
                routes=tuple(self._routes(written)),
            )
        if written is None and not any(service.is_balanced for service in services.values()):
            return
        gateway = self.result.gateway
        services[GATEWAY] = Service(
            name=GATEWAY,
            kind=Kind.GATEWAY,
            program=EngineProgram(GATEWAY_ENGINE),
            endpoints=() if gateway is None else (Endpoint("http", gateway.port, Scheme.HTTP),),
            restart=Restart.ALWAYS,
            update=Update.RECREATE,
            ready=Check(QueryProbe()),
            where=str(self._tree.key_place(GATEWAY)) if gateway else "",
        )

    def _routes(self, written: GatewaySection) -> list[Route]:
        section = self._tree.get(GATEWAY)
        at = section.get("routes") if isinstance(section, Section) else None
        if not isinstance(at, Section):
            return []
        routes: dict[str, Route] = {}
        for path, word in written.routes.items():
            place = at.key_place(path)
            node = at.get(path)
            short = path.rstrip("/") or "/"
            if short in routes:
                self._report.error(place, f"the route '{path}' is there twice")
                continue
            if isinstance(word, RouteSection):
                if word.to is None:
                    if isinstance(node, Section) and not {"to", "static"} & node.key_places.keys():
                        self._report.error(place, f"the route '{path}' needs 'to'")
                    continue
                to_place = _place(node, "to") if isinstance(node, Section) else place
                target = self._route_target(word.to, to_place)
                routes[short] = Route(short, target, word.strip, word.timeout, word.stream)
            else:
                to_place = node.place if isinstance(node, Scalar) else place
                routes[short] = Route(short, self._route_target(word, to_place))
        return list(routes.values())

    def _route_target(self, to: str, place: Place) -> str:
        """The key in the routing table."""
        name, _, wanted = to.partition(".")
        service = self.result.services.get(name)
        if service is None and name not in self._known:
            near = did_you_mean(name, self._known)
            self._report.error(place, f"there is no service '{name}' to route to{near}")
        if service is None or name in self._damaged:
            return to
        if service.kind is not Kind.SERVICE:
            self._report.error(place, f"cannot route to '{name}': it is a {service.kind}")
        elif not service.endpoints:
            self._report.error(place, f"cannot route to '{name}': it has no port")
        elif wanted and wanted not in {endpoint.name for endpoint in service.endpoints}:
            known = ", ".join(endpoint.name for endpoint in service.endpoints)
            self._report.error(place, f"'{name}' has no port '{wanted}'", f"its ports: {known}")
        else:
            endpoint = next(
                (e for e in service.endpoints if e.name == wanted), service.endpoints[0]
            )
            if endpoint.scheme is not Scheme.HTTP:
                self._report.error(
                    place, f"cannot route to '{to}': it speaks {endpoint.scheme}, not http"
                )
            return name if endpoint is service.endpoints[0] else f"{name}.{endpoint.name}"
        return to

    def check_fixed_ports(self, file: StackFile) -> None:
        owners: dict[int, str] = {}
        if file.gateway is not None and isinstance(file.gateway.port, FixedPort):
            owners[file.gateway.port.fixed] = "the gateway"
        for name, service in self.result.services.items():
            for endpoint in service.endpoints:
                if not endpoint.fixed:
                    continue
                if endpoint.port in owners:
                    self._report.error(
                        self._key_place("services", name),
                        f"'{name}' and {owners[endpoint.port]} are both fixed to port {endpoint.port}",
                    )
                owners.setdefault(endpoint.port, f"'{name}'")

    # --- places and paths --------------------------------------------------------------------

    def _section(self, kind: str, name: str) -> Section:
        parent = self._tree[kind]
        assert isinstance(parent, Section)
        section = parent[name]
        assert isinstance(section, Section)  # the schema reads nothing else
        return section

    def _is_job(self, at: Section) -> bool:
        kind = at.get("kind")
        return isinstance(kind, Scalar) and kind.text == Kind.JOB

    def _name_of(self, at: Section) -> str:
        services = self._tree["services"]
        assert isinstance(services, Section)
        return next(name for name, section in services.items() if section is at)

    def _key_place(self, kind: str, name: str) -> Place:
        parent = self._tree[kind]
        assert isinstance(parent, Section)
        return parent.key_place(name)

    def _where(self, kind: str, name: str) -> str:
        return str(self._key_place(kind, name))

    def _contained(self, text: str, place: Place, what: str) -> Path | None:
        """A file that must be there, under the stack file's folder or a source, links followed."""
        path = _resolved(self._folder, text)
        if not any(path.is_relative_to(root) for root in self._roots):
            self._report.error(
                place,
                f"'{what}' cannot be '{text}': it lies outside the stack file's folder and every "
                "source",
            )
            return None
        if not _exists(path):
            self._report.error(place, f"the {what} '{text}' does not exist")
            return None
        return path


def _timed(probe: Probe, written: ProbeSection) -> Check:
    return Check(probe, written.interval, written.timeout, written.failures, written.successes)


def _stop(written: StopSection | None, usual: Stop) -> Stop:
    if written is None:
        return usual
    grace = usual.grace_seconds if written.grace is None else written.grace
    return Stop(written.signal or usual.signal, grace)


def _command(written: Template | list[Template] | None) -> Command | None:
    match written:
        case None:
            return None
        case Template():
            return ShellCommand(written)
        case list():
            return ArgvCommand(tuple(written))


def _number(port: int | FixedPort | None) -> int:
    return port.fixed if isinstance(port, FixedPort) else port or GATEWAY_PORT


def _paths(written: str | list[str], node: Node | None) -> list[tuple[str, Place]]:
    """Each path with its place."""
    match node:
        case Scalar() if isinstance(written, str):
            return [(written, node.place)]
        case Items() if isinstance(written, list):
            return [(text, item.place) for text, item in zip(written, node, strict=True)]
        case _:
            return []


def _place(at: Section, key: str) -> Place:
    """Where the value of a key starts."""
    node = at.get(key)
    return at.key_place(key) if node is None else node.place


def _resolved(folder: Path, text: str) -> Path:
    try:
        return (folder / text).resolve()
    except (OSError, RuntimeError):  # a loop of symbolic links
        return folder / text


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
