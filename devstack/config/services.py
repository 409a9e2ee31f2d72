"""Lowers services and jobs: programs, ports, dependencies, files of variables."""

from devstack.config.dotenv import read_env_file
from devstack.config.ground import (
    Ground,
    exists,
    is_folder,
    lower_command,
    lower_stop,
    paths_with_places,
    value_place,
)
from devstack.config.presets import FAKES, SERVICE_PORT
from devstack.config.probes import lower_check
from devstack.config.schema import FixedPort, NamedPort, ProbeSection, ServiceSection
from devstack.config.source import Section
from devstack.core.model import (
    Check,
    Condition,
    Dependency,
    Endpoint,
    FakeProgram,
    Kind,
    ListenProbe,
    Probe,
    Program,
    Restart,
    Service,
    SourceProgram,
    Stop,
    Update,
    UptimeProbe,
)


def lower_service(ground: Ground, name: str, written: ServiceSection) -> Service:
    at = ground.section("services", name)
    is_job = written.kind is Kind.JOB
    if is_job:
        _check_job(ground, at, written)
    endpoints = _endpoints(ground, at, written)
    is_fixed = any(endpoint.fixed for endpoint in endpoints)
    if is_fixed and written.replicas > 1:
        ground.report.error(
            at.key_place("replicas"),
            f"'replicas' cannot be {written.replicas}: its port is fixed, and only one "
            "program can listen on it",
            "have the program read $PORT and write the port without 'fixed'",
        )
    if is_fixed and written.update is Update.ROLLING:
        ground.report.error(
            at.key_place("update"),
            "'update' cannot be 'rolling': its port is fixed, and only one program can "
            "listen on it",
        )

    def check(key: str, section: ProbeSection | None) -> Check | None:
        return None if is_job else lower_check(ground, name, key, section, endpoints)

    default_ready: Probe = ListenProbe() if endpoints else UptimeProbe()
    ready = check("ready", written.ready) or Check(default_ready)
    if written.alive is not None and written.alive.log is not None:
        ground.report.error(
            at.key_place("alive"),
            "'alive' cannot be a log line: one that was written stays written",
        )
    restart = Restart.NEVER if is_job else Restart.ON_FAILURE
    return Service(
        name=name,
        kind=written.kind,
        program=_program(ground, name, at, written),
        runtime=written.run,
        replicas=written.replicas,
        endpoints=endpoints,
        depends_on=_dependencies(written),
        environment=tuple(written.environment.items()),
        env_file=_env_files(ground, at, written.env_file),
        restart=written.restart or restart,
        update=written.update or (Update.RECREATE if is_fixed else Update.ROLLING),
        stop=lower_stop(written.stop, Stop()),
        startup=check("startup", written.startup),
        ready=ready,
        alive=check("alive", written.alive),
        start_timeout_seconds=written.start_timeout,
        where=str(ground.key_place("services", name)),
    )


def _check_job(ground: Ground, at: Section, written: ServiceSection) -> None:
    for key in ("port", "ports", "ready", "alive", "startup", "update"):
        if key in written.model_fields_set:
            ground.report.error(
                at.key_place(key), f"a job has no '{key}'", "a job runs once and ends"
            )
    if written.replicas != 1:
        ground.report.error(at.key_place("replicas"), "a job has one replica")
    if written.restart not in (None, Restart.NEVER):
        ground.report.error(
            at.key_place("restart"), "a job is not restarted", "leave 'restart' out"
        )


def _program(ground: Ground, name: str, at: Section, written: ServiceSection) -> Program:
    if written.run in FAKES:
        for key in ("source", "command", "main"):
            if key in written.model_fields_set:
                ground.report.error(
                    at.key_place(key), f"'{key}' has no meaning with 'run: {written.run}'"
                )
        return FakeProgram(written.script or "")
    if written.script is not None:
        ground.report.error(at.key_place("script"), "'script' is for 'run: fake'")
    if written.source is None and written.command is None and name not in ground.damaged:
        ground.report.error(
            ground.key_place("services", name), f"'{name}' needs 'source' or 'command'"
        )
    if written.main is not None and written.source is None:
        ground.report.error(at.key_place("main"), "'main' needs a 'source' to be found in")
    command = None if written.command is None else lower_command(written.command)
    source = None
    if written.source is not None:
        path = ground.resolved(written.source)
        if not is_folder(path):
            reason = "is not a folder" if exists(path) else "does not exist"
            ground.report.error(
                value_place(at, "source"), f"the source '{written.source}' {reason}"
            )
        source = str(path)
    return SourceProgram(source, command, written.main)


def _endpoints(ground: Ground, at: Section, written: ServiceSection) -> tuple[Endpoint, ...]:
    if written.kind is Kind.JOB:
        return ()
    has_port = "port" in written.model_fields_set
    if has_port and written.ports:
        ground.report.error(
            at.key_place("ports"), "'port' and 'ports' cannot both be there", "keep 'ports'"
        )
    if written.ports:
        ports = at.get("ports")
        assert isinstance(ports, Section)
        return tuple(_named_ports(ground, ports, written))
    match written.port:
        case FixedPort(fixed=number):
            return (Endpoint(str(written.scheme), number, written.scheme, fixed=True),)
        case None if has_port:
            return ()
        case number:
            return (Endpoint(str(written.scheme), number or SERVICE_PORT, written.scheme),)


def _named_ports(ground: Ground, at: Section, written: ServiceSection) -> list[Endpoint]:
    endpoints: list[Endpoint] = []
    for name, word in written.ports.items():
        if isinstance(word, NamedPort):
            if (word.port is None) == (word.fixed is None):
                ground.report.error(
                    at.key_place(name), f"the port '{name}' needs either 'port' or 'fixed'"
                )
            number = word.port or word.fixed or SERVICE_PORT
            scheme = word.scheme or written.scheme
            endpoint = Endpoint(name, number, scheme, fixed=word.fixed is not None)
        else:
            endpoint = Endpoint(name, word, written.scheme)
        for other in endpoints:
            if other.port == endpoint.port:
                ground.report.error(
                    at.key_place(name),
                    f"the ports '{other.name}' and '{name}' are both {endpoint.port}",
                )
        endpoints.append(endpoint)
    return endpoints


def _dependencies(written: ServiceSection) -> tuple[Dependency, ...]:
    """`names` turns READY into COMPLETED for the jobs of a list."""
    if isinstance(written.depends_on, dict):
        return tuple(Dependency(name, Condition(word)) for name, word in written.depends_on.items())
    names = dict.fromkeys(written.depends_on)
    return tuple(Dependency(name, Condition.READY) for name in names)


def _env_files(
    ground: Ground, at: Section, written: str | list[str]
) -> tuple[tuple[str, str], ...]:
    values: dict[str, str] = {}
    for text, place in paths_with_places(written, at.get("env_file")):
        path = ground.contained(text, place, "env_file")
        if path is None:
            continue
        if path not in ground.env_files:
            ground.env_files.append(path)
        shown = str(path.relative_to(ground.folder)) if path.is_relative_to(ground.folder) else text
        found = read_env_file(path, shown, ground.report, named_at=place)
        for name, value in found.items():
            values.pop(name, None)
            values[name] = value
    return tuple(values.items())
