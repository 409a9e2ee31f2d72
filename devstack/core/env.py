"""The environment of a replica: who gives which variable, and who wins.

Low to high: the shell of whoever ran `up` < `env_file` < injected < `environment`. `PORT`, where
devstack assigns one, beats `environment` too, since the gateway dials that very port. Every value that
was overridden is remembered, so that it can be told.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from devstack.core.model import EngineProgram, Kind, Service, Stack
from devstack.core.template import Reference

OWN_PREFIX = "DEVSTACK_"
"""Variables of devstack itself, which are never passed on from the shell."""

COVER = "‹secret›"
"""What is shown in place of a secret."""

_PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s:/@]*):[^\s/@]+@")
_SECRET_WORDS = ("PASSWORD", "SECRET", "TOKEN", "KEY")

Lookup = Callable[[Reference], str]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as the replica sees it."""

    name: str
    value: str
    origin: str
    """`shell`, `env_file`, `injected (orders)`, `environment`."""
    overrides: tuple[str, ...] = ()
    """Origins whose different value it replaced, the shell's aside."""

    @property
    def is_secret(self) -> bool:
        """Whether the value must not be shown: by its name, or a password in a URL."""
        return is_secret_name(self.name) or _has_password(self.value)


def is_secret_name(name: str) -> bool:
    """Whether a variable is named like a secret."""
    return any(word in name.upper() for word in _SECRET_WORDS)


def _has_password(value: str) -> bool:
    scheme, separator, rest = value.partition("://")
    authority = rest.split("/", 1)[0]
    return bool(separator and scheme) and "@" in authority and ":" in authority.rsplit("@", 1)[0]


def masked(variable: Variable) -> str:
    """The value as it may be shown."""
    if not variable.is_secret:
        return variable.value
    if _has_password(variable.value):
        scheme, _, rest = variable.value.partition("://")
        authority, slash, path = rest.partition("/")
        credentials, _, host = authority.rpartition("@")
        return f"{scheme}://{credentials.split(':', 1)[0]}:{COVER}@{host}{slash}{path}"
    return COVER


def without_passwords(text: str) -> str:
    """A text for people, such as a program's last words, without the passwords of URLs in it."""
    return _PASSWORD_IN_URL.sub(rf"\1:{COVER}@", text)


def password_in(url: str) -> str:
    """The password in a URL, as it is written there; empty for any other text."""
    if not _has_password(url):
        return ""
    authority = url.partition("://")[2].partition("/")[0]
    return authority.rpartition("@")[0].partition(":")[2]


def variable_prefix(name: str) -> str:
    """`orders-db` → `ORDERS_DB`."""
    return name.upper().replace("-", "_")


def port_variable(service: Service, endpoint: str) -> str:
    """The variable that tells a replica the port of an endpoint: `PORT`, or `PORT_ADMIN`."""
    main = service.main_endpoint
    is_main = main is not None and main.name == endpoint
    return "PORT" if is_main else f"PORT_{variable_prefix(endpoint)}"


def injected(service: Service, stack: Stack, lookup: Lookup) -> list[tuple[str, str, str]]:
    """(name, value, origin) of what devstack gives a service, `PORT` aside."""
    found: list[tuple[str, str, str]] = [
        ("PYTHONUNBUFFERED", "1", "injected"),
        ("OTEL_SERVICE_NAME", service.name, "injected"),
        ("OTEL_RESOURCE_ATTRIBUTES", f"service.namespace={stack.name}", "injected"),
    ]
    databases = []
    for dependency in service.depends_on:
        target = stack.services.get(dependency.service)
        if target is None or not target.endpoints:  # None: a definition older than this stack
            continue
        origin = f"injected ({target.name})"
        prefix = variable_prefix(target.name)
        found.extend(
            (f"{prefix}_{field.upper()}", lookup(Reference(target.name, field)), origin)
            for field in ("url", "host", "port")
        )
        if target.kind is Kind.DATABASE:
            databases.append(target.name)
        if isinstance(target.program, EngineProgram) and target.program.engine == "nats":
            found.append(("NATS_URL", lookup(Reference(target.name, "url")), origin))
    if len(databases) == 1:
        url = lookup(Reference(databases[0], "url"))
        found.append(("DATABASE_URL", url, f"injected ({databases[0]})"))
    return found


def environment(
    service: Service,
    stack: Stack,
    *,
    shell: Mapping[str, str],
    assigned: Mapping[str, str],
    lookup: Lookup,
) -> tuple[Variable, ...]:
    """All variables of a replica, sorted by name. `assigned` is `PORT` and its like.

    Whatever `lookup` raises for a reference that cannot be resolved passes through.
    """
    result: dict[str, Variable] = {}

    def put(pairs: Iterable[tuple[str, str, str]]) -> None:
        for name, value, origin in pairs:
            before = result.get(name)
            lost: tuple[str, ...] = ()
            if before is not None and before.origin != origin:
                different = before.value != value and before.origin != "shell"
                lost = (*before.overrides, *((before.origin,) if different else ()))
            result[name] = Variable(name, value, origin, lost)

    put((n, v, "shell") for n, v in shell.items() if not n.startswith(OWN_PREFIX))
    if "PORT" not in assigned:
        result.pop("PORT", None)  # a worker is told none, whatever the shell happens to have
    put((n, v, "env_file") for n, v in service.env_file)
    put(injected(service, stack, lookup))
    put((n, t.resolve(lookup), "environment") for n, t in service.environment)
    put((n, v, "injected") for n, v in assigned.items())
    return tuple(result[name] for name in sorted(result))
