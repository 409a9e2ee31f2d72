"""Lowers probes: which one question is asked, of which port, and how often."""

from devstack.config.ground import Ground, lower_command, value_place
from devstack.config.schema import ProbeSection
from devstack.config.source import Section
from devstack.core.model import Check, Endpoint, ExecProbe, HttpProbe, LogProbe, Probe, TcpProbe


def lower_check(
    ground: Ground,
    name: str,
    key: str,
    written: ProbeSection | None,
    endpoints: tuple[Endpoint, ...],
) -> Check | None:
    """The check that a service has under a key; None where it has none, or none that can be read."""
    probe = None if written is None else _probe(ground, name, key, written, endpoints)
    return None if written is None or probe is None else timed(probe, written)


def timed(probe: Probe, written: ProbeSection) -> Check:
    return Check(probe, written.interval, written.timeout, written.failures, written.successes)


def _probe(
    ground: Ground,
    name: str,
    key: str,
    written: ProbeSection,
    endpoints: tuple[Endpoint, ...],
) -> Probe | None:
    at = ground.section("services", name)
    place = at.key_place(key)
    asked = [
        word
        for word in ("http", "tcp", "exec", "log", "query")
        if getattr(written, word) not in (None, False)
    ]
    if len(asked) != 1:
        # A question that could not be read was told already.
        if asked or name not in ground.damaged:
            found = f", not {' and '.join(asked)}" if asked else ""
            ground.report.error(place, f"'{key}' needs one of http, tcp, exec and log{found}")
        return None
    if written.query:
        ground.report.error(
            place, f"'{key}' cannot be a query: only databases and brokers answer one"
        )
        return None
    if written.port is not None and asked[0] not in ("http", "tcp"):
        ground.report.error(place, f"'{key}.port' goes with http and tcp only")
    if written.exec is not None:
        return ExecProbe(lower_command(written.exec))
    if written.log is not None:
        return LogProbe(written.log)
    if not endpoints and name not in ground.damaged:
        ground.report.error(place, f"'{key}' cannot ask {asked[0]}: the service has no port")
        return None
    endpoint = _asked_endpoint(ground, at, key, written.port, endpoints)
    return TcpProbe(endpoint) if written.http is None else HttpProbe(written.http, endpoint)


def _asked_endpoint(
    ground: Ground, at: Section, key: str, port: str | None, endpoints: tuple[Endpoint, ...]
) -> str | None:
    if port is None:
        return None
    for endpoint in endpoints:
        if port in (endpoint.name, str(endpoint.port)):
            return endpoint.name
    section = at.get(key)
    place = value_place(section, "port") if isinstance(section, Section) else at.place
    known = ", ".join(f"{e.name} ({e.port})" for e in endpoints)
    ground.report.error(place, f"the service has no port '{port}'", f"its ports: {known}")
    return None
