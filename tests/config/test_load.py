"""From file to Stack: defaults, what fits together, overrides, paths and names."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.config.load import Loaded, load
from devstack.config.problems import ConfigError, Problem
from devstack.core.model import (
    ArgvCommand,
    Check,
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
from devstack.core.template import Reference, Template, literal

SHOP = """\
# yaml-language-server: $schema=./.devstack/schema.json
name: shop

gateway:
  port: 8080
  routes:
    /auth: auth
    /orders: orders
    /payments: payments
    /old: {to: orders, strip: true, timeout: 30s}

services:
  auth:
    source: services/auth
    depends_on: [auth-db, nats]
    ready: {http: /healthz}
  orders:
    source: services/orders
    replicas: 2
    depends_on: {orders-db: ready, nats: ready, auth: started}
    environment: {HOST: "${self.host}", AUTH: "${auth.url}"}
    env_file: [.env]
  payments:
    source: services/payments
    depends_on: [payments-db, nats, migrate]
  migrate:
    command: ./migrate.sh
    depends_on: [orders-db]
    kind: job

databases:
  auth-db:     {engine: postgres, version: "18", seed: services/auth/schema.sql}
  orders-db:   {engine: mysql}
  payments-db: {engine: mongodb}

broker:
  nats: {engine: nats, jetstream: true}
"""


@pytest.fixture
def shop(folder: Path) -> Path:
    for name in ("auth", "orders", "payments"):
        (folder / "services" / name).mkdir(parents=True)
    (folder / "services/auth/schema.sql").write_text("")
    (folder / ".env").write_text("GREETING=hello\n")
    (folder / "stack.yaml").write_text(SHOP)
    return folder


def test_the_stack_of_the_design_is_lowered_as_it_is_meant(shop: Path) -> None:
    loaded = load(shop / "stack.yaml", {})

    stack = loaded.stack
    assert (stack.name, stack.file, stack.folder) == ("shop", str(shop / "stack.yaml"), str(shop))
    assert stack.id == hashlib.sha256(str(shop / "stack.yaml").encode()).hexdigest()[:10]
    assert stack.gateway == Gateway(
        8080,
        False,
        (
            Route("/auth", "auth"),
            Route("/orders", "orders"),
            Route("/payments", "payments"),
            Route("/old", "orders", strip=True, timeout_seconds=30.0),
        ),
    )
    assert list(stack.services) == [
        "auth",
        "orders",
        "payments",
        "migrate",
        "auth-db",
        "orders-db",
        "payments-db",
        "nats",
        "gateway",
    ]
    assert stack.service("auth") == Service(
        name="auth",
        kind=Kind.SERVICE,
        program=SourceProgram(str(shop / "services/auth")),
        endpoints=(Endpoint("http", 8080),),
        depends_on=(
            Dependency("auth-db", Condition.READY),
            Dependency("nats", Condition.READY),
        ),
        ready=Check(HttpProbe("/healthz")),
        where="stack.yaml:13",
    )
    assert stack.service("orders") == Service(
        name="orders",
        kind=Kind.SERVICE,
        program=SourceProgram(str(shop / "services/orders")),
        replicas=2,
        endpoints=(Endpoint("http", 8080),),
        depends_on=(
            Dependency("orders-db", Condition.READY),
            Dependency("nats", Condition.READY),
            Dependency("auth", Condition.STARTED),
        ),
        environment=(
            ("HOST", Template((Reference("self", "host"),))),
            ("AUTH", Template((Reference("auth", "url"),))),
        ),
        env_file=(("GREETING", "hello"),),
        ready=Check(ListenProbe()),
        where="stack.yaml:17",
    )
    assert stack.service("payments").depends_on[-1] == Dependency("migrate", Condition.COMPLETED)
    assert stack.service("migrate") == Service(
        name="migrate",
        kind=Kind.JOB,
        program=SourceProgram(None, ShellCommand(literal("./migrate.sh"))),
        depends_on=(Dependency("orders-db", Condition.READY),),
        restart=Restart.NEVER,
        where="stack.yaml:26",
    )
    assert stack.service("auth-db") == Service(
        name="auth-db",
        kind=Kind.DATABASE,
        program=EngineProgram(
            "postgres",
            version="18",
            user="devstack",
            database="auth_db",
            seed=(str(shop / "services/auth/schema.sql"),),
        ),
        endpoints=(Endpoint("tcp", 5432, Scheme.TCP),),
        restart=Restart.ALWAYS,
        update=Update.RECREATE,
        stop=Stop("INT", 10.0),
        ready=Check(QueryProbe()),
        where="stack.yaml:32",
    )
    assert stack.service("orders-db").endpoints[0].port == 3306
    assert stack.service("payments-db").endpoints[0].port == 27017
    assert stack.service("nats") == Service(
        name="nats",
        kind=Kind.BROKER,
        program=EngineProgram("nats", jetstream=True),
        endpoints=(Endpoint("tcp", 4222, Scheme.TCP),),
        restart=Restart.ALWAYS,
        update=Update.RECREATE,
        ready=Check(QueryProbe()),
        where="stack.yaml:37",
    )
    gateway = stack.service("gateway")
    assert (gateway.kind, gateway.program) == (Kind.GATEWAY, EngineProgram("nginx"))
    assert (gateway.depends_on, gateway.where) == ((), "stack.yaml:4")
    assert loaded.warnings == ()
    assert loaded.env_files == (shop / ".env",)
    assert loaded.files == (shop / "stack.yaml",)


def one(load_text: Callable[..., Loaded], body: str) -> Service:
    """The service `a` of a stack with nothing else that matters."""
    return load_text(f"services:\n  b: {{command: x}}\n  a: {{{body}}}\n").stack.service("a")


def test_command_wins_as_shell_text_or_argument_list(load_text: Callable[..., Loaded]) -> None:
    shell = one(load_text, "command: 'serve --port ${self.port} | tee log'")
    argv = one(load_text, "command: [serve, --port, '${self.port}']")

    port = Reference("self", "port")
    assert shell.program == SourceProgram(
        None, ShellCommand(Template(("serve --port ", port, " | tee log")))
    )
    assert argv.program == SourceProgram(
        None, ArgvCommand((literal("serve"), literal("--port"), Template((port,))))
    )


def test_main_names_one_of_several_programs(folder: Path, load_text: Callable[..., Loaded]) -> None:
    (folder / "code").mkdir()

    service = one(load_text, "source: code, main: ./cmd/api")

    assert service.program == SourceProgram(str(folder / "code"), None, "./cmd/api")


@pytest.mark.parametrize(
    ("body", "endpoints", "ready"),
    [
        ("command: x", (Endpoint("http", 8080),), ListenProbe()),
        ("command: x, port: 5000", (Endpoint("http", 5000),), ListenProbe()),
        ("command: x, port: '5000'", (Endpoint("http", 5000),), ListenProbe()),
        ("command: x, port: none", (), UptimeProbe(1.0)),
        ("command: x, port: {fixed: 80}", (Endpoint("http", 80, fixed=True),), ListenProbe()),
        (
            "command: x, port: 6379, scheme: tcp",
            (Endpoint("tcp", 6379, Scheme.TCP),),
            ListenProbe(),
        ),
        (
            (
                "command: x, ports: {web: 80, admin: {port: 81}, raw: {port: 82, scheme: tcp}, "
                "own: {fixed: 83}}"
            ),
            (
                Endpoint("web", 80),
                Endpoint("admin", 81),
                Endpoint("raw", 82, Scheme.TCP),
                Endpoint("own", 83, fixed=True),
            ),
            ListenProbe(),
        ),
        ("command: x, kind: job", (), UptimeProbe(1.0)),
    ],
)
def test_port_words_give_endpoints_and_the_readiness_that_fits(
    load_text: Callable[..., Loaded],
    body: str,
    endpoints: tuple[Endpoint, ...],
    ready: ListenProbe | UptimeProbe,
) -> None:
    service = one(load_text, body)

    assert service.endpoints == endpoints
    assert service.ready == Check(ready)


def test_a_fixed_port_is_replaced_by_stopping_first(load_text: Callable[..., Loaded]) -> None:
    assert one(load_text, "command: x, port: {fixed: 80}").update is Update.RECREATE
    assert one(load_text, "command: x").update is Update.ROLLING


@pytest.mark.parametrize(
    ("ready", "check"),
    [
        ("{http: /healthz}", Check(HttpProbe("/healthz"))),
        (
            "{http: /h?full=1, port: admin, interval: 500ms, timeout: 2s, failures: 5, successes: 2}",
            Check(HttpProbe("/h?full=1", "admin"), 0.5, 2.0, 5, 2),
        ),
        ("{tcp: true}", Check(TcpProbe())),
        ("{tcp: yes, port: 81}", Check(TcpProbe("admin"))),
        ("{exec: 'test -e x'}", Check(ExecProbe(ShellCommand(literal("test -e x"))))),
        (
            "{exec: [test, -e, x], timeout: 5}",
            Check(ExecProbe(ArgvCommand(tuple(map(literal, ("test", "-e", "x"))))), 2.0, 5.0),
        ),
        ('{log: "listening on \\\\d+"}', Check(LogProbe("listening on \\d+"))),
    ],
)
def test_probes_are_read(load_text: Callable[..., Loaded], ready: str, check: Check) -> None:
    service = one(load_text, f"command: x, ports: {{web: 80, admin: 81}}, ready: {ready}")

    assert service.ready == check


def test_a_service_says_everything_else_about_its_life(load_text: Callable[..., Loaded]) -> None:
    service = one(
        load_text,
        "command: x, replicas: 0, restart: always, update: recreate, start_timeout: 5m, "
        "stop: {signal: SIGINT, grace: 1m30s}, startup: {tcp: true}, alive: {http: /alive}",
    )

    assert (service.replicas, service.restart, service.update) == (
        0,
        Restart.ALWAYS,
        Update.RECREATE,
    )
    assert (service.start_timeout_seconds, service.stop) == (300.0, Stop("INT", 90.0))
    assert (service.startup, service.alive) == (Check(TcpProbe()), Check(HttpProbe("/alive")))


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("10s", 10.0),
        ("1m", 60.0),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("2", 2.0),
        ("1h1m1s", 3661.0),
        ("1d", 86400.0),
    ],
)
def test_durations_are_read(load_text: Callable[..., Loaded], typed: str, seconds: float) -> None:
    assert one(load_text, f"command: x, stop: {{grace: {typed}}}").stop.grace_seconds == seconds


def test_databases_take_what_their_engines_need(
    folder: Path, load_text: Callable[..., Loaded]
) -> None:
    (folder / "seeds").mkdir()
    (folder / "more.sql.gz").write_bytes(b"")

    stack = load_text(
        """\
databases:
  main-db:
    engine: postgres
    port: 6000
    user: me
    password: it's $$ecret
    database: shop
    extensions: [pg_trgm, vector]
    flags: ["-c", log_statement=all]
    seed: [seeds, more.sql.gz]
    ready: {interval: 5s}
    restart: on-failure
    stop: {grace: 30s}
"""
    ).stack

    assert stack.gateway is None
    assert list(stack.services) == ["main-db"]
    service = stack.service("main-db")
    assert service.program == EngineProgram(
        "postgres",
        user="me",
        password=literal("it's $ecret"),
        database="shop",
        extensions=("pg_trgm", "vector"),
        flags=("-c", "log_statement=all"),
        seed=(str(folder / "seeds"), str(folder / "more.sql.gz")),
    )
    assert service.endpoints == (Endpoint("tcp", 6000, Scheme.TCP),)
    assert (service.restart, service.stop) == (Restart.ON_FAILURE, Stop("INT", 30.0))
    assert service.ready == Check(QueryProbe(), interval_seconds=5.0)


def test_fake_runtimes_take_a_script(load_text: Callable[..., Loaded]) -> None:
    fake = one(load_text, "run: fake, script: 'ready 0.1; exit 1 after 2', port: none")
    workload = one(load_text, "run: fake-workload, replicas: 3")

    assert (fake.runtime, fake.program) == (
        RuntimeName.FAKE,
        FakeProgram("ready 0.1; exit 1 after 2"),
    )
    assert (workload.runtime, workload.program) == (RuntimeName.FAKE_WORKLOAD, FakeProgram())


def test_the_gateway_is_there_when_anything_is_balanced_or_asked_for(
    load_text: Callable[..., Loaded],
) -> None:
    def has_gateway(text: str) -> tuple[bool, bool]:
        stack = load_text(text).stack
        return "gateway" in stack.services, stack.gateway is not None

    assert has_gateway("services:\n  a: {command: x}\n") == (True, False)
    assert has_gateway("services:\n  a: {command: x, port: none}\n") == (False, False)
    assert has_gateway("services:\n  a: {command: x, port: {fixed: 80}}\n") == (False, False)
    assert has_gateway("gateway:\nservices:\n  a: {command: x, port: none}\n") == (True, True)


def test_the_gateway_insists_on_a_fixed_port(load_text: Callable[..., Loaded]) -> None:
    stack = load_text("gateway: {port: {fixed: 80}}\nservices: {a: {command: x}}\n").stack

    assert stack.gateway == Gateway(80, fixed=True)


@pytest.mark.parametrize(
    ("gateway", "line"), [("{routes: {/: a}}", 1), ("{port: 8080}", 1), ("", 1)]
)
def test_a_port_that_the_gateway_only_wants_is_left_to_the_service_that_is_fixed_to_it(
    load_text: Callable[..., Loaded], gateway: str, line: int
) -> None:
    loaded = load_text(
        f"gateway: {gateway}\n"
        "services:\n"
        "  a: {command: x, port: {fixed: 8080}}\n"
        "  b: {command: x, ports: {web: 9000, own: {fixed: 8081}}}\n"
    )

    assert loaded.stack.gateway is not None
    assert (loaded.stack.gateway.port, loaded.stack.gateway.fixed) == (8082, False)
    assert loaded.stack.service("gateway").endpoints == (Endpoint("http", 8082),)
    [warning] = loaded.warnings
    assert warning.line == line
    assert warning.message == "the gateway gets port 8082: 'a' is fixed to 8080"


def test_routes_go_to_the_port_that_is_named(load_text: Callable[..., Loaded]) -> None:
    stack = load_text(
        """\
gateway:
  routes: {/: web, /w/: web.main, /admin: web.admin, /up: {to: web, stream: true}}
services:
  web: {command: x, ports: {main: 80, admin: 81}}
"""
    ).stack

    assert stack.gateway is not None
    assert stack.gateway.routes == (
        Route("/", "web"),
        Route("/w", "web"),
        Route("/admin", "web.admin"),
        Route("/up", "web", stream=True),
    )


def test_two_services_are_dialled_on_the_same_port(load_text: Callable[..., Loaded]) -> None:
    stack = load_text("services:\n  a: {command: x, port: 80}\n  b: {command: x, port: 80}\n").stack

    assert stack.service("a").endpoints == stack.service("b").endpoints


def test_tcp_is_warned_of(load_text: Callable[..., Loaded]) -> None:
    [warning] = load_text("services:\n  a: {command: x, scheme: tcp}\n").warnings

    assert warning.where == "stack.yaml:2:3"
    assert "idle connections end when the gateway's configuration changes" in warning.message


def test_a_stack_without_a_name_has_that_of_its_folder(tmp_path: Path) -> None:
    names = {}
    for folder in ("My Shop_2", "42", "été", "a" * 60):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "stack.yaml").write_text("services: {a: {command: x}}")
        names[folder] = load(tmp_path / folder / "stack.yaml", {}).stack.name

    assert names == {"My Shop_2": "my-shop-2", "42": "stack", "été": "t", "a" * 60: "a" * 40}


WRONG: list[tuple[str, list[str]]] = [
    (
        "services: {a: {command: x, kind: job, port: 80}}",
        ["1:39 a job has no 'port'"],
    ),
    (
        "services: {a: {command: x, kind: job, ready: {tcp: true}, replicas: 2, restart: always}}",
        [
            "1:39 a job has no 'ready'",
            "1:59 a job has one replica",
            "1:72 a job is not restarted",
        ],
    ),
    (
        "services: {a: {command: x}, b: {command: x, depends_on: {a: completed}}}",
        ["1:58 'a' is not a job and never completed"],
    ),
    (
        "services: {a: {command: x, kind: job}, b: {command: x, depends_on: {a: ready}}}",
        ["1:69 'a' is a job and never ready"],
    ),
    (
        "services: {b: {command: x, depends_on: {b2: service_healthy}}, b2: {command: x}}",
        ["1:45 'depends_on.b2' must be 'started', 'ready' or 'completed', not 'service_healthy'"],
    ),
    (
        "services: {a: {command: x, depends_on: [gateway]}}",
        ["1:41 nothing can depend on the gateway"],
    ),
    (
        "services: {a: {command: x, port: {fixed: 80}, update: rolling}}",
        [
            (
                "1:47 'update' cannot be 'rolling': its port is fixed, and only one program can "
                "listen on it"
            )
        ],
    ),
    (
        "services:\n" + "".join(f"  s{n}: {{command: x}}\n" for n in range(254)),
        ["255:3 's253' is one too many: a stack has addresses for 253 services with a port"],
    ),
    (
        "services: {a: {command: x, port: {fixed: 80}}, b: {command: x, port: {fixed: 80}}}",
        ["1:64 'b' and 'a' are both fixed to port 80 (lines 1, 1)"],
    ),
    (
        (
            "gateway: {port: {fixed: 80}}\nservices:\n  a:\n    command: x\n"
            "    ports: {web: 81, own: {fixed: 80}}\n"
        ),
        ["5:22 'a' and the gateway are both fixed to port 80 (lines 1, 5)"],
    ),
    (
        "services: {a: {command: x, ports: {one: 80, two: 80, three: {scheme: tcp}}}}",
        [
            "1:45 the ports 'one' and 'two' are both 80",
            "1:54 the port 'three' needs either 'port' or 'fixed'",
        ],
    ),
    (
        "services: {a: {command: x, ready: {query: true}, alive: {log: x}}}",
        [
            "1:28 'ready' cannot be a query: only databases and brokers answer one",
            "1:50 'alive' cannot be a log line: one that was written stays written",
        ],
    ),
    (
        "services: {a: {command: x, ready: {exec: y, port: http}, alive: {tcp: true, port: 81}}}",
        [
            "1:28 'ready.port' goes with http and tcp only",
            "1:83 the service has no port '81'",
        ],
    ),
    ("services: {a: {command: x, main: y}}", ["1:28 'main' needs a 'source' to be found in"]),
    ("services: {a: {command: x, script: y}}", ["1:28 'script' is for 'run: fake'"]),
    (
        "services: {a: {command: x, run: fake}}",
        ["1:16 'command' has no meaning with 'run: fake'"],
    ),
    (
        (
            "gateway: {routes: {/a: a, /a/: a, /b: w, /c: t, /d: a.x, /e: {strip: true}, /f: j}}\n"
            "services: {a: {command: x}, w: {command: x, port: none}, t: {command: x, scheme: tcp},\n"
            "  j: {command: x, kind: job}}"
        ),
        [
            "1:27 the route '/a/' is there twice",
            "1:39 cannot route to 'w': it has no port",
            "1:46 cannot route to 't': it speaks tcp, not http",
            "1:53 'a' has no port 'x'",
            "1:58 the route '/e' needs 'to'",
            "1:81 cannot route to 'j': it is a job",
        ],
    ),
    (
        "services: {a: {command: x}}\ndatabases: {a: {engine: mysql}}",
        ["2:13 the name 'a' is given twice"],
    ),
    (
        "databases: {d: {engine: mysql, extensions: [x], ready: {http: /}, run: fake}}",
        [
            "1:32 'extensions' are for postgres, not mysql",
            "1:49 'ready' of mysql is always a query",
            "1:72 'run' cannot be 'fake' here",
        ],
    ),
    ("broker: {n: {engine: nats, password: x}}", ["1:28 'password' needs a 'user'"]),
    ("name: shop\n", ["0:0 the stack has no services"]),
    ("services:\n", ["0:0 the stack has no services"]),
    ("name: Shop\nservices: {a: {command: x}}", ["1:7 'name' must be a name, not 'Shop'"]),
    ("services: {a: {command: []}}", ["1:25 'command' is empty"]),
    ("services: {a: {command: ''}}", ["1:25 'command' is empty"]),
    ("services: {a: {command: [x, {y: z}]}}", ["1:29 'command[2]' must be a text, not a map"]),
    ("services: {a: {source: code.txt}}", ["1:24 the source 'code.txt' is not a folder"]),
    (
        "services: {a: {command: x, replicas: 201}}",
        ["1:38 'replicas' must be a whole number from 0 to 200, not '201'"],
    ),
    (
        "services: {a: {command: x, ready: {tcp: true, interval: 0}}}",
        ["1:57 'ready.interval' must be longer than 0"],
    ),
]


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_what_does_not_fit_together_is_told(
    folder: Path, problems: Callable[..., list[Problem]], text: str, expected: list[str]
) -> None:
    (folder / "code.txt").write_text("")

    assert [f"{p.line}:{p.column} {p.message}" for p in problems(text)] == expected


def cycle(*edges: tuple[str, str]) -> str:
    names = dict.fromkeys(name for edge in edges for name in edge)
    lines = ["services:"]
    for name in names:
        needs = ", ".join(to for start, to in edges if start == name)
        lines.append(f"  {name}: {{command: x, depends_on: [{needs}], port: none}}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("edges", "messages"),
    [
        ([("a", "a")], ["2:32 dependency cycle: a → a (line 2)"]),
        ([("a", "b"), ("b", "a")], ["2:32 dependency cycle: a → b → a (lines 2, 3)"]),
        (
            [("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")],
            ["3:32 dependency cycle: b → c → d → b (lines 3, 4, 5)"],
        ),
        (
            [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")],
            [
                "2:32 dependency cycle: a → b → a (lines 2, 3)",
                "4:32 dependency cycle: c → d → c (lines 4, 5)",
            ],
        ),
        (
            [("a", "b"), ("a", "c"), ("b", "a"), ("c", "a")],
            [
                "2:32 dependency cycle: a → b → a (lines 2, 3)",
                "2:35 dependency cycle: a → c → a (lines 2, 4)",
            ],
        ),
    ],
)
def test_b10_cycles_are_rejected_with_their_whole_path_and_lines(
    problems: Callable[..., list[Problem]], edges: list[tuple[str, str]], messages: list[str]
) -> None:
    found = problems(cycle(*edges))

    assert [f"{p.line}:{p.column} {p.message}" for p in found] == messages


def test_b10_an_unknown_dependency_is_rejected_with_its_line(
    problems: Callable[..., list[Problem]],
) -> None:
    [problem] = problems(
        "services:\n  orders: {command: x}\n  a:\n    command: x\n    depends_on: {ordrs: ready}\n"
    )

    assert problem.where == "stack.yaml:5:18"
    assert problem.message == "there is no service 'ordrs' to depend on (did you mean 'orders'?)"


def test_b10_a_cycle_over_two_files_names_both(problems: Callable[..., list[Problem]]) -> None:
    [problem] = problems(cycle(("a", "b")), override="services:\n  b:\n    depends_on: [a]\n")

    assert problem.message == (
        "dependency cycle: a → b → a (lines stack.yaml:2, stack.override.yaml:3)"
    )


def test_b10_a_diamond_and_a_long_chain_are_no_cycle(load_text: Callable[..., Loaded]) -> None:
    chain = [(f"s{n}", f"s{n + 1}") for n in range(1500)]

    stack = load_text(cycle(("a", "b"), ("a", "c"), ("b", "s0"), ("c", "s0"), *chain)).stack

    assert len(stack.services) == 1504


def test_the_override_merges_maps_and_replaces_lists(load_text: Callable[..., Loaded]) -> None:
    loaded = load_text(
        """\
services:
  a:
    command: x
    depends_on: [b, c]
    environment: {ONE: "1", TWO: "2"}
    port: {fixed: 80}
  b: {command: x}
  c: {command: x}
""",
        override="""\
services:
  a:
    depends_on: [c]
    environment: {TWO: two, THREE: "3"}
    port: 8000
  d: {command: y}
""",
    )

    a = loaded.stack.service("a")
    assert a.depends_on == (Dependency("c", Condition.READY),)
    assert {name: str(value) for name, value in a.environment} == {
        "ONE": "1",
        "TWO": "two",
        "THREE": "3",
    }
    assert a.endpoints == (Endpoint("http", 8000),)
    assert loaded.stack.service("d").where == "stack.override.yaml:6"
    assert [path.name for path in loaded.files] == ["stack.yaml", "stack.override.yaml"]


def test_a_key_of_the_override_with_nothing_below_it_changes_no_map_and_no_list(
    load_text: Callable[..., Loaded],
) -> None:
    """Its lines are commented out: that takes nothing away."""
    stack = load_text(
        """\
gateway: {port: 9000, routes: {/: a}}
services:
  a:
    command: x
    environment: {A: "1"}
    depends_on: [b]
  b: {command: x}
""",
        override="""\
gateway:
  # port: 9001
services:
  a:
    environment:
      # A: "2"
    depends_on:
  b:
""",
    ).stack

    a = stack.service("a")
    assert stack.gateway is not None
    assert (stack.gateway.port, len(stack.gateway.routes)) == (9000, 1)
    assert [name for name, _ in a.environment] == ["A"]
    assert a.depends_on == (Dependency("b", Condition.READY),)


def test_an_empty_list_in_the_override_empties_the_list(
    load_text: Callable[..., Loaded],
) -> None:
    a = load_text(
        "services:\n  a: {command: x, depends_on: [b]}\n  b: {command: x}\n",
        override="services:\n  a: {depends_on: []}\n",
    ).stack.service("a")

    assert a.depends_on == ()


def test_problems_name_the_file_they_come_from(problems: Callable[..., list[Problem]]) -> None:
    found = problems(
        "services:\n  a: {command: x, port: 0}\n  b: {command: x}\n",
        override="services:\n  a:\n    replicas: -1\n  b: {comand: y, depends_on: [nobody]}\n",
    )

    assert [(p.where, p.message) for p in found] == [
        ("stack.override.yaml:3:15", "'replicas' must be a whole number from 0 to 200, not '-1'"),
        ("stack.override.yaml:4:7", "unknown key 'comand' (did you mean 'command'?)"),
        ("stack.override.yaml:4:31", "there is no service 'nobody' to depend on"),
        ("stack.yaml:2:25", "'port' must be a port from 1 to 65535, not '0'"),
    ]
    assert found[0].excerpt == "    replicas: -1"


def test_an_override_that_cannot_be_read_is_named(problems: Callable[..., list[Problem]]) -> None:
    [problem] = problems("services: {a: {command: x}}", override="services: [\n")

    assert problem.file == "stack.override.yaml"


def test_another_stack_file_has_an_override_of_its_own(folder: Path) -> None:
    (folder / "stack.override.yaml").write_text("not: used")
    (folder / "ci.yaml").write_text("services: {a: {command: x}}")
    (folder / "ci.override.yaml").write_text("services: {a: {replicas: 3}}")

    loaded = load(folder / "ci.yaml", {})

    assert loaded.stack.service("a").replicas == 3


def test_a_missing_stack_file_is_a_problem_like_any_other(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder / "stack.yaml", {})

    assert str(caught.value) == "stack.yaml: cannot read stack.yaml: no such file or directory"


def test_j11_a_stack_file_in_a_very_deep_folder_is_loaded(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(12):
        deep = deep / ("long" * 20)
    deep.mkdir(parents=True)
    (deep / "code").mkdir()
    (deep / "stack.yaml").write_text("services: {a: {source: code}}")

    loaded = load(deep / "stack.yaml", {})

    assert len(loaded.stack.file) > 900
    assert len(loaded.stack.id) == 10
    assert loaded.stack.service("a").program == SourceProgram(str(deep / "code"))


def test_two_checkouts_have_two_ids_and_a_link_to_one_has_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stack.yaml").write_text("services: {a: {command: x}}")
    (tmp_path / "link").symlink_to("one")

    one, two, link = (
        load(tmp_path / name / "stack.yaml", {}).stack for name in ("one", "two", "link")
    )

    assert one.id != two.id
    assert link == one


NGINX_PAYLOADS = [
    "x { server 127.0.0.1:1; } server { listen 1; } upstream y",
    "/ { return 200 ok; } location /etc/ { alias /etc/; } location /z",
    "/q # \\n { root /; } location /z",
    "include /etc/passwd;",
]


@pytest.mark.parametrize("payload", NGINX_PAYLOADS)
@pytest.mark.parametrize(
    "text",
    [
        'services: {"%s": {command: x}}',
        'databases: {"%s": {engine: postgres}}',
        'name: "%s"\nservices: {a: {command: x}}',
        'gateway: {routes: {"%s": a}}\nservices: {a: {command: x}}',
        'gateway: {routes: {"/%s": a}}\nservices: {a: {command: x}}',
        'gateway: {routes: {/x: "%s"}}\nservices: {a: {command: x}}',
        'gateway: {routes: {/x: {to: a, timeout: "%s"}}}\nservices: {a: {command: x}}',
        'gateway: {port: "%s"}\nservices: {a: {command: x}}',
        'services: {a: {command: x, ports: {"%s": 80}}}',
        'services: {a: {command: x, port: "%s"}}',
    ],
)
def test_k06_what_would_be_nginx_configuration_is_rejected(
    problems: Callable[..., list[Problem]], text: str, payload: str
) -> None:
    found = problems(text.replace("%s", payload))

    assert len(found) == 1
    assert found[0].line == 1


@pytest.mark.parametrize("payload", NGINX_PAYLOADS)
def test_k06_variables_do_not_bring_it_in_either(
    problems: Callable[..., list[Problem]], payload: str
) -> None:
    found = problems(
        "gateway: {port: '${V}', routes: {/x: '${V}'}}\nservices: {a: {command: x}}",
        environment={"V": payload},
    )

    assert len(found) == 2


@pytest.mark.parametrize(
    "path", ["..", ".", "a//b", "a/../b", "%2e%2e", "ü", "a b", "a\\t", "a?b", "a;b", "a'b", "$a"]
)
def test_k06_a_route_is_a_plain_path(problems: Callable[..., list[Problem]], path: str) -> None:
    [problem] = problems(f'gateway: {{routes: {{"/{path}": a}}}}\nservices: {{a: {{command: x}}}}')

    assert problem.message.startswith("a route must be a path")


@pytest.fixture
def outside(tmp_path: Path, folder: Path) -> Path:
    """Files beside the stack file's folder, with a link to each inside it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("secret.env", "seed.sql"):
        (outside / name).write_text("")
        (folder / f"link-{name}").symlink_to(outside / name)
    return outside


@pytest.mark.parametrize("way", ["../outside/{}", "{absolute}", "link-{}", "x/../../outside/{}"])
def test_k07_files_outside_the_folder_and_the_sources_are_refused(
    problems: Callable[..., list[Problem]], outside: Path, way: str
) -> None:
    env = way.format("secret.env", absolute=outside / "secret.env")
    seed = way.format("seed.sql", absolute=outside / "seed.sql")

    found = problems(
        f"services:\n  a: {{command: x, env_file: [{env}]}}\n"
        f"databases:\n  d: {{engine: mysql, seed: {seed}}}\n"
    )

    assert [(p.line, p.message) for p in found] == [
        (
            2,
            f"'env_file' cannot be '{env}': it lies outside the stack file's folder and every source",
        ),
        (4, f"'seed' cannot be '{seed}': it lies outside the stack file's folder and every source"),
    ]


def test_an_env_file_that_cannot_be_read_is_told_where_it_is_named(
    folder: Path, problems: Callable[..., list[Problem]]
) -> None:
    (folder / "folder.env").mkdir()
    (folder / "huge.env").write_bytes(b"#" * (1024 * 1024 + 1))

    found = problems("services:\n  a: {command: x, env_file: [folder.env, huge.env]}\n")

    assert [(p.where, p.message) for p in found] == [
        ("stack.yaml:2:30", "cannot read folder.env: it is a folder"),
        ("stack.yaml:2:42", "cannot read huge.env: it is larger than 1 MiB"),
    ]


def test_k07_a_source_may_lie_outside_and_its_files_with_it(
    load_text: Callable[..., Loaded], outside: Path
) -> None:
    loaded = load_text(
        "services:\n  a: {source: ../outside, env_file: ../outside/secret.env}\n"
        "databases:\n  d: {engine: mysql, seed: ../outside/seed.sql}\n"
    )

    assert loaded.stack.service("a").program == SourceProgram(str(outside))
    assert loaded.env_files == (outside / "secret.env",)


def test_a_seed_of_another_kind_is_refused(
    folder: Path, problems: Callable[..., list[Problem]]
) -> None:
    (folder / "seed.txt").write_text("")

    [problem] = problems("databases:\n  d: {engine: mysql, seed: seed.txt}\n")

    assert problem.message == "the seed 'seed.txt' is none of .sql .sql.gz .js .sh"


def test_k14_loading_executes_imports_and_writes_nothing(shop: Path) -> None:
    for name in ("sitecustomize.py", "yaml.py", "conftest.py", "services/auth/app.py"):
        (shop / name).write_text("import os; os._exit(3)\n")
    (shop / "migrate.sh").write_text("#!/bin/sh\ntouch executed\n")
    (shop / "migrate.sh").chmod(0o755)
    program = (
        "import sys, os\n"
        "seen = []\n"
        "def hook(event, args):\n"
        "    if event in ('subprocess.Popen', 'os.system', 'os.exec', 'os.posix_spawn', 'os.fork',\n"
        "                 'os.mkdir', 'os.rename', 'os.remove', 'os.chmod', 'socket.connect'):\n"
        "        seen.append((event, args))\n"
        "    if event == 'open' and isinstance(args[2], int) and (\n"
        "            args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):\n"
        "        seen.append((event, args))\n"
        "from pathlib import Path\n"
        "from devstack.config.load import load\n"
        "sys.addaudithook(hook)\n"
        "load(Path(sys.argv[1]), dict(os.environ))\n"
        "here = sys.argv[1].rsplit('/', 1)[0]\n"
        "seen += [n for n, m in sys.modules.items() if (getattr(m, '__file__', None) or '').startswith(here)]\n"
        "sys.exit(repr(seen) if seen else 0)\n"
    )
    before = sorted(str(path) for path in shop.rglob("*"))
    root = Path(__file__).parents[2]

    result = subprocess.run(
        [sys.executable, "-c", program, str(shop / "stack.yaml")],
        cwd=root,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(str(path) for path in shop.rglob("*")) == before
