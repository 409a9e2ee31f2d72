"""The environment of a replica: who wins, what is injected, what is never shown."""

import pytest

from devstack.core.env import Variable, environment, is_secret_name, masked, variable_prefix
from devstack.core.model import EngineProgram, Kind, Service
from devstack.core.template import Reference, literal, parse_template
from tests.support.history import database, needs, stack, web, worker

ADDRESSES = {
    "db": "127.64.0.2",
    "auth": "127.64.0.3",
    "nats": "127.64.0.4",
    "audit-db": "127.64.0.5",
}


def lookup(reference: Reference) -> str:
    host = ADDRESSES[reference.service]
    return {"host": host, "port": "80", "url": f"http://{host}:80"}[reference.field]


def variables(
    service: Service, *others: Service, shell: dict[str, str] | None = None, **assigned: str
) -> dict[str, Variable]:
    found = environment(
        service,
        stack(service, *others),
        shell=shell or {},
        assigned=assigned,
        lookup=lookup,
    )
    return {variable.name: variable for variable in found}


def test_environment_beats_injected_beats_env_file_beats_the_shell() -> None:
    app = web(
        depends_on=needs("auth"),
        env_file=(("AUTH_URL", "file"), ("LEVEL", "file"), ("MODE", "file")),
        environment=(("LEVEL", literal("stack")), ("AUTH_HOST", literal("stack"))),
    )

    found = variables(
        app, web("auth"), shell={"MODE": "shell", "HOME": "/home/me", "AUTH_URL": "shell"}
    )

    assert {n: (found[n].value, found[n].origin, found[n].overrides) for n in (
        "HOME", "MODE", "LEVEL", "AUTH_URL", "AUTH_HOST", "AUTH_PORT"
    )} == {
        "HOME": ("/home/me", "shell", ()),
        "MODE": ("file", "env_file", ()),
        "LEVEL": ("stack", "environment", ("env_file",)),
        "AUTH_URL": ("http://127.64.0.3:80", "injected (auth)", ("env_file",)),
        "AUTH_HOST": ("stack", "environment", ("injected (auth)",)),
        "AUTH_PORT": ("80", "injected (auth)", ()),
    }  # fmt: skip


def test_the_assigned_port_beats_environment_and_the_override_is_remembered() -> None:
    found = variables(web(environment=(("PORT", literal("3000")),)), PORT="21034")

    assert (found["PORT"].value, found["PORT"].origin, found["PORT"].overrides) == (
        "21034",
        "injected",
        ("environment",),
    )


def test_a_worker_is_told_no_port_even_if_the_shell_has_one_but_may_set_its_own() -> None:
    assert "PORT" not in variables(worker(), shell={"PORT": "5000"})
    own = worker(environment=(("PORT", literal("9")),))
    assert variables(own, shell={"PORT": "5000"})["PORT"].value == "9"


def test_a_service_whose_main_port_is_fixed_is_not_told_the_shells_port() -> None:
    assert "PORT" not in variables(web(), shell={"PORT": "5000"}, PORT_ADMIN="21034")


def test_devstacks_own_variables_are_not_passed_on() -> None:
    found = variables(web(), shell={"DEVSTACK_RUN": "x", "DEVSTACKED": "y"})

    assert "DEVSTACK_RUN" not in found
    assert found["DEVSTACKED"].value == "y"


def test_the_host_is_not_injected_and_the_service_is_named_for_traces() -> None:
    found = variables(web())

    assert "HOST" not in found
    assert found["OTEL_SERVICE_NAME"].value == "web"
    assert found["OTEL_RESOURCE_ATTRIBUTES"].value == "service.namespace=shop"
    assert not [name for name in found if name.startswith("OTEL_EXPORTER")]


def test_one_database_is_the_database_url_and_of_two_neither_is() -> None:
    one = variables(web(depends_on=needs("db")), database())
    two = variables(web(depends_on=needs("db", "audit-db")), database(), database("audit-db"))

    assert one["DATABASE_URL"].value == "http://127.64.0.2:80"
    assert "DATABASE_URL" not in two
    assert two["AUDIT_DB_HOST"].value == "127.64.0.5"


def test_nats_gets_its_usual_variable_whatever_it_is_called() -> None:
    broker = web("nats", kind=Kind.BROKER, program=EngineProgram("nats"))

    assert variables(web(depends_on=needs("nats")), broker)["NATS_URL"].value == (
        "http://127.64.0.4:80"
    )


def test_dependencies_without_a_port_inject_nothing() -> None:
    assert "DB_URL" not in variables(web(depends_on=needs("db")), worker("db"))


def test_references_are_resolved_in_environment() -> None:
    app = web(environment=(("PEER", parse_template("${auth.host}:${auth.port}/x")),))

    assert variables(app, web("auth"))["PEER"].value == "127.64.0.3:80/x"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("LEVEL", "debug", "debug"),
        ("DB_PASSWORD", "hunter2", "‹secret›"),
        ("github_token", "abc", "‹secret›"),
        ("SECRET_SAUCE", "abc", "‹secret›"),
        ("API_KEY", "abc", "‹secret›"),
        ("URL", "http://host/a?b", "http://host/a?b"),
        ("URL", "http://me@host/a", "http://me@host/a"),
        ("URL", "postgres://me:pa55@host:5432/db", "postgres://me:‹secret›@host:5432/db"),
        ("URL", "postgres://me:p@55@host/db", "postgres://me:‹secret›@host/db"),
    ],
)
def test_secrets_are_masked(name: str, value: str, shown: str) -> None:
    assert masked(Variable(name, value, "environment")) == shown


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [("PASSWORD", True), ("Db_Password", True), ("TOKENS", True), ("PATH", False), ("", False)],
)
def test_secrets_are_known_by_name(name: str, is_secret: bool) -> None:
    assert is_secret_name(name) is is_secret


def test_a_dash_becomes_an_underscore_in_variable_names() -> None:
    assert variable_prefix("orders-db") == "ORDERS_DB"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("plain $HOME $${x}", ("plain $HOME $${x}",)),
        ("${orders.url}", (Reference("orders", "url"),)),
        ("a${self.port}b", ("a", Reference("self", "port"), "b")),
        ("${orders.admin.port}", (Reference("orders", "port", "admin"),)),
        ("${secrets.db.path}", (Reference("db", "path", secret=True),)),
        ("${Orders.url}", ("${Orders.url}",)),
        ("${url}", ("${url}",)),
    ],
)
def test_a_template_is_split_at_its_references(
    text: str, parts: tuple[str | Reference, ...]
) -> None:
    template = parse_template(text)

    assert template.parts == parts
    assert str(template) == text
