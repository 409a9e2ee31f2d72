"""J10: variables, defaults and references in a stack file."""

from collections.abc import Callable

import pytest

from devstack.config.load import Loaded
from devstack.config.problems import Problem
from devstack.core.template import Reference, Template

ENVIRONMENT = {"SET": "value", "EMPTY": "", "TRICKY": "${SET} $$ ${auth.url}"}
AUTH_URL = Reference("auth", "url")

FILLED: list[tuple[str, tuple[str | Reference, ...]]] = [
    ("plain", ("plain",)),
    ("", ()),
    ("${SET}", ("value",)),
    ("a ${SET} b", ("a value b",)),
    ("${EMPTY}", ()),
    ("${EMPTY:-default}", ("default",)),
    ("${EMPTY-default}", ()),
    ("${MISSING:-default}", ("default",)),
    ("${MISSING-default}", ("default",)),
    ("${MISSING:-}", ()),
    ("${SET:-default}", ("value",)),
    ("${SET:?is needed}", ("value",)),
    ("${EMPTY?is needed}", ()),
    ("${SET:+other}", ("other",)),
    ("${EMPTY:+other}", ()),
    ("${MISSING+other}", ()),
    ("${EMPTY+other}", ("other",)),
    ("${MISSING:-${SET}}", ("value",)),
    ("${MISSING:-${ALSO:-x}-${SET}}", ("x-value",)),
    ("${MISSING:-a:-b}", ("a:-b",)),
    ("${MISSING:-http://x/?a={b}", ("http://x/?a={b",)),
    ("$${SET}", ("${SET}",)),
    ("$$$${SET}", ("$${SET}",)),
    ("$$PORT", ("$PORT",)),
    ("$PORT", ("$PORT",)),
    ("cost: 5$", ("cost: 5$",)),
    ("$(id)", ("$(id)",)),
    ("${TRICKY}", ("${SET} $$ ${auth.url}",)),
    ("${auth.url}", (AUTH_URL,)),
    ("${auth.url}/me", (AUTH_URL, "/me")),
    ("$${auth.url}", ("${auth.url}",)),
    ("${MISSING:-${auth.url}}", (AUTH_URL,)),
    ("${SET:-${auth.url}}", ("value",)),
    ("${self.port}", (Reference("self", "port"),)),
    ("${self.host}:${self.port}", (Reference("self", "host"), ":", Reference("self", "port"))),
    ("${auth-db.dsn}", (Reference("auth-db", "dsn"),)),
    ("${wide.admin.address}", (Reference("wide", "address", "admin"),)),
    ("${gateway.url}", (Reference("gateway", "url"),)),
]

SERVICES = """\
gateway: {routes: {/a: auth}}
databases:
  auth-db: {engine: postgres}
services:
  auth: {command: x}
  wide: {command: x, ports: {http: 8080, admin: 9090}}
  worker: {command: x, port: none}
  job: {command: x, kind: job}
  a:
    command: x
    environment:
      V: '%s'
"""


@pytest.mark.parametrize(("text", "parts"), FILLED)
def test_j10_variables_are_filled_in_and_references_are_kept(
    load_text: Callable[..., Loaded], text: str, parts: tuple[str | Reference, ...]
) -> None:
    loaded = load_text(SERVICES % text, environment=ENVIRONMENT)

    assert dict(loaded.stack.service("a").environment)["V"] == Template(parts)


WRONG: list[tuple[str, int, str]] = [
    ("${MISSING}", 11, "the variable 'MISSING' is not set"),
    ("a ${MISSING}", 13, "the variable 'MISSING' is not set"),
    ("${A:-${MISSING}}", 16, "the variable 'MISSING' is not set"),
    ("${EMPTY:?is needed}", 11, "the variable 'EMPTY' is needed: is needed"),
    ("${MISSING?}", 11, "the variable 'MISSING' is needed: not set"),
    ("${MISSING", 11, "'${' is not closed by '}'"),
    ("${}", 11, "cannot read '${}'"),
    ("${1}", 11, "cannot read '${1}'"),
    ("${A B}", 11, "cannot read '${A B}'"),
    ("${Auth.url}", 11, "cannot read '${Auth.url}'"),
    ("${auht.url}", 11, "'${auht.url}': there is no 'auht' (did you mean 'auth'?)"),
    (
        "x ${auth.ulr}",
        13,
        "'${auth.ulr}': the service 'auth' has no 'ulr' (did you mean 'url'?)",
    ),
    ("${auth.dsn}", 11, "'${auth.dsn}': the service 'auth' has no 'dsn'"),
    (
        "${auth-db.pasword}",
        11,
        (
            "'${auth-db.pasword}': the database 'auth-db' has no 'pasword' "
            "(did you mean 'password'?)"
        ),
    ),
    (
        "${wide.admn.url}",
        11,
        "'${wide.admn.url}': 'wide' has no port 'admn' (did you mean 'admin'?)",
    ),
    ("${worker.url}", 11, "'${worker.url}': 'worker' has no port, so there is nothing to dial"),
    ("${job.url}", 11, "'${job.url}': 'job' is a job, so there is nothing to dial"),
    ("${secrets.key.path}", 11, "'${secrets.key.path}': secrets are not in this version"),
]


@pytest.mark.parametrize(("text", "column", "message"), WRONG)
def test_j10_what_is_missing_is_told_at_its_place(
    problems: Callable[..., list[Problem]], text: str, column: int, message: str
) -> None:
    [problem] = problems(SERVICES % text, environment=ENVIRONMENT)

    assert (problem.line, problem.column, problem.message) == (12, column, message)


def test_j10_a_variable_in_a_block_of_text_is_told_on_its_own_line(
    problems: Callable[..., list[Problem]],
) -> None:
    [problem] = problems("services:\n  a:\n    command: |\n      one\n      two ${MISSING}\n")

    assert problem.where == "stack.yaml:5:11"


def test_j10_defaults_nested_without_end_are_refused(
    problems: Callable[..., list[Problem]],
) -> None:
    text = "${A:-" * 1000 + "}" * 1000

    [problem] = problems(f"services:\n  a: {{command: '{text}'}}\n")

    assert problem.message == "defaults are nested deeper than 20 levels"


def test_j10_variables_never_look_into_each_other_so_there_is_no_cycle(
    load_text: Callable[..., Loaded],
) -> None:
    loaded = load_text(
        "services:\n  a: {command: x, environment: {V: '${A}'}}\n",
        dotenv="A=${B}\nB=${A}\n",
    )

    assert dict(loaded.stack.service("a").environment)["V"] == Template(("${B}",))


def test_the_environment_wins_over_dotenv(load_text: Callable[..., Loaded]) -> None:
    loaded = load_text(
        "gateway: {port: '${PORT:-1}'}\nservices:\n  a: {command: '${V}'}\n",
        dotenv="PORT=9000\nV=file\n",
        environment={"V": "environment"},
    )

    assert loaded.stack.gateway is not None
    assert loaded.stack.gateway.port == 9000
    assert "environment" in repr(loaded.stack.service("a").program)


def test_a_missing_variable_is_told_once_and_not_again_as_a_wrong_value(
    problems: Callable[..., list[Problem]],
) -> None:
    found = problems(
        "name: '${N}'\nservices:\n"
        "  a: {source: '${S}', port: '${P}', ready: {http: '${H}'}, depends_on: ['${D}']}\n"
        "  b: {command: ['${C}'], environment: {A: '${a.url}'}}\n"
        "databases:\n  db: {engine: '${E}'}\n"
    )

    assert [p.message for p in found] == [
        f"the variable '{name}' is not set" for name in ("N", "S", "P", "H", "D", "C", "E")
    ]


def test_references_are_for_what_is_known_at_the_start_only(
    problems: Callable[..., list[Problem]],
) -> None:
    found = problems(
        "services:\n  a: {command: x}\n"
        "  b: {command: x, source: '${a.url}', replicas: '${a.port}', ready: {http: '/${a.host}'}}\n"
    )

    assert [p.message for p in found] == [
        "'source' cannot contain ${a.url}",
        "'replicas' cannot contain ${a.port}",
        "'ready.http' cannot contain ${a.host}",
    ]


def test_references_may_go_in_circles_and_to_oneself(load_text: Callable[..., Loaded]) -> None:
    loaded = load_text(
        "services:\n"
        "  a: {command: [x, '${b.url}']}\n"
        "  b: {command: 'x ${a.url} ${self.address}', ready: {exec: [y, '${self.port}']}}\n"
    )

    assert set(loaded.stack.services) == {"a", "b", "gateway"}


def test_a_variable_without_braces_is_warned_of_where_no_shell_reads_it(
    load_text: Callable[..., Loaded],
) -> None:
    loaded = load_text(
        """\
services:
  a:
    command: [./run, --port, $PORT]
    environment: {PATH: "/opt/bin:$PATH", NESTED: "${MISSING:-$HOME}", COST: 5$, TEXT: $$HOME}
    ready: {exec: [test, -e, "$HOME/up"]}
  shell:
    command: exec ./run --port $PORT
    ready: {exec: test -e "$HOME/up"}
  own-shell:
    command: [bash, -lc, "exec ./run --port $PORT"]
databases:
  db: {engine: postgres, password: pa$word}
"""
    )

    assert [(f"{w.line}:{w.column}", w.message.split(" ")[0], w.hint) for w in loaded.warnings] == [
        ("3:30", "$PORT", "write ${self.port}; $$PORT is the text $PORT"),
        ("4:35", "$PATH", "write ${PATH}; $$PATH is the text $PATH"),
        ("4:63", "$HOME", "write ${HOME}; $$HOME is the text $HOME"),
        ("5:31", "$HOME", "write ${HOME}; $$HOME is the text $HOME"),
    ]
    assert loaded.warnings[0].message == (
        "$PORT is passed on as it stands: there is no shell here to fill it in"
    )
