"""J01: broken stack files; each is answered with the exact place, a message and a hint."""

from collections.abc import Callable

import pytest

from devstack.config.load import Loaded
from devstack.config.problems import ConfigError, Problem

CASES: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "a misspelt key",
        "services:\n  a:\n    comand: ./run\n",
        [("3:5", "unknown key 'comand' (did you mean 'command'?)", "")],
    ),
    (
        "a misspelt section",
        "servces:\n  a: {command: x}\n",
        [("1:1", "unknown key 'servces' (did you mean 'services'?)", "")],
    ),
    (
        "a key of Compose",
        "services:\n  a:\n    command: x\n    healthcheck: {test: true}\n",
        [("4:5", "unknown key 'healthcheck'", "devstack says 'ready'")],
    ),
    (
        "a key nobody knows",
        "services:\n  a: {command: x}\nfoo: 1\n",
        [("3:1", "unknown key 'foo'", "known here: name, gateway, services, databases, broker")],
    ),
    (
        "a duplicate key",
        "services:\n  a:\n    command: x\n    command: y\n",
        [("4:5", "duplicate key 'command'", "the first is on line 3; keep one of them")],
    ),
    (
        "a duplicate service",
        "services:\n  a: {command: x}\n  a: {command: y}\n",
        [("3:3", "duplicate key 'a'", "the first is on line 2; keep one of them")],
    ),
    (
        "a tab that indents",
        "services:\n  a:\n\tcommand: x\n",
        [("3:1", "a tab cannot indent YAML", "indent with spaces")],
    ),
    (
        "a tab behind spaces",
        "services:\n  a:\n    command: x\n    \tport: 1\n",
        [("4:5", "a tab cannot indent YAML", "indent with spaces")],
    ),
    (
        "an unclosed bracket",
        "services:\n  a:\n    command: [x, y\n  b: {command: x}\n",
        [("4:4", "expected ',' or ']', but got ':'", "the list in [ ] starts on line 3")],
    ),
    (
        "an unclosed quote",
        'services:\n  a:\n    command: "x\n',
        [("3:14", "the quote is not closed", "write the same quote at the end of the text")],
    ),
    (
        "a colon in a text",
        "services:\n  a:\n    command: echo: hi: there\n",
        [
            (
                "3:18",
                "a ':' is not allowed here",
                "quote a text that contains ': ', and check the indentation",
            )
        ],
    ),
    (
        "a wrong indentation",
        "services:\n  a:\n    command: x\n   port: 1\n",
        [
            (
                "4:4",
                "this does not fit the lines above",
                "the map starts on line 2; check the indentation, and that a key stands before every ':'",
            )
        ],
    ),
    (
        "an at sign",
        "services:\n  a:\n    command: @x\n",
        [("3:14", "a value cannot start with '@'", "put the value in quotes")],
    ),
    ("an empty file", "", [("0:0", "stack.yaml is empty", "")]),
    ("only a comment", "# nothing\n", [("0:0", "stack.yaml is empty", "")]),
    (
        "a list at the top",
        "- services\n",
        [("1:1", "a stack file is a map of keys such as 'services:'", "")],
    ),
    (
        "a text at the top",
        "services\n",
        [("1:1", "a stack file is a map of keys such as 'services:'", "")],
    ),
    (
        "a second document",
        "services:\n  a: {command: x}\n---\nservices: {}\n",
        [("3:1", "a second document starts here", "a stack is one document")],
    ),
    (
        "a tag of Python",
        "services:\n  a: {command: !!python/object/apply:os.system [id]}\n",
        [
            (
                "2:16",
                "the tag '!!python/object/apply:os.system' is not allowed",
                "write the value without a tag",
            )
        ],
    ),
    (
        "an unknown anchor",
        "services:\n  a: *base\n",
        [("2:6", "the anchor 'base' is not defined above this line", "")],
    ),
    (
        "a merge of a text",
        "services:\n  a:\n    <<: base\n    command: x\n",
        [("3:5", "'<<' takes a map or a list of maps, such as *base", "")],
    ),
    (
        "a map for a key",
        "services:\n  {a: b}: {command: x}\n",
        [("2:3", "a key must be a text, not a map or a list", "")],
    ),
    (
        "a missing key",
        "services:\n  : {command: x}\n",
        [
            (
                "2:3",
                "this does not fit the lines above",
                "check the indentation, and that a key stands before every ':'",
            )
        ],
    ),
    (
        "a control character",
        'services:\n  a: {command: "x\x07"}\n',
        [
            (
                "2:18",
                "the character U+0007 is not allowed in YAML",
                'write it as an escape in double quotes, such as "\\x1b"',
            )
        ],
    ),
    (
        "a list for a service",
        "services:\n  a: [command]\n",
        [
            (
                "2:6",
                "'services.a' must be a map, not a list",
                "write 'name: value' lines without the leading '- '",
            )
        ],
    ),
    (
        "a list of services",
        "services:\n  - a\n",
        [
            (
                "2:3",
                "'services' must be a map, not a list",
                "write 'name: value' lines without the leading '- '",
            )
        ],
    ),
    ("a service with nothing", "services:\n  a:\n", [("2:3", "'services.a' is empty", "")]),
    (
        "no command",
        "services:\n  a: {replicas: 2}\n",
        [("2:3", "'a' needs 'source' or 'command'", "")],
    ),
    (
        "a port mapping",
        "services:\n  a: {command: x, port: 80:80}\n",
        [
            (
                "2:25",
                "'port' must be a port from 1 to 65535, not '80:80'",
                "write the port that callers dial; nothing is mapped",
            )
        ],
    ),
    (
        "a port beyond all",
        "services:\n  a: {command: x, port: 70000}\n",
        [("2:25", "'port' must be a port from 1 to 65535, not '70000'", "")],
    ),
    (
        "port and ports",
        "services:\n  a: {command: x, port: 80, ports: {web: 81}}\n",
        [("2:29", "'port' and 'ports' cannot both be there", "keep 'ports'")],
    ),
    (
        "a word for replicas",
        "services:\n  a: {command: x, replicas: two}\n",
        [("2:29", "'replicas' must be a whole number from 0 to 200, not 'two'", "")],
    ),
    (
        "a duration without sense",
        "services:\n  a: {command: x, stop: {grace: soon}}\n",
        [("2:33", "'stop.grace' must be a duration such as 500ms, 10s or 1m30s, not 'soon'", "")],
    ),
    (
        "a signal nobody has",
        "services:\n  a: {command: x, stop: {signal: TERN}}\n",
        [("2:34", "'stop.signal' must be a signal such as TERM or INT, not 'TERN'", "")],
    ),
    (
        "an unknown restart",
        "services:\n  a: {command: x, restart: on-fail}\n",
        [
            (
                "2:28",
                "'restart' must be 'always', 'on-failure' or 'never', not 'on-fail' (did you mean 'on-failure'?)",
                "",
            )
        ],
    ),
    (
        "no for never",
        "services:\n  a: {command: x, restart: no}\n",
        [
            (
                "2:28",
                "'restart' must be 'always', 'on-failure' or 'never', not 'no'",
                "write 'never'",
            )
        ],
    ),
    (
        "a bad regular expression",
        'services:\n  a: {command: x, ready: {log: "("}}\n',
        [
            (
                "2:32",
                "'ready.log' is not a regular expression: missing ), unterminated subpattern at position 0",
                "",
            )
        ],
    ),
    (
        "two probes in one",
        "services:\n  a: {command: x, ready: {http: /, tcp: true}}\n",
        [("2:19", "'ready' needs one of http, tcp, exec and log, not http and tcp", "")],
    ),
    (
        "an empty probe",
        "services:\n  a: {command: x, ready: {interval: 1s}}\n",
        [("2:19", "'ready' needs one of http, tcp, exec and log", "")],
    ),
    (
        "a probe of no port",
        "services:\n  a: {command: x, port: none, ready: {http: /}}\n",
        [("2:31", "'ready' cannot ask http: the service has no port", "")],
    ),
    (
        "an unknown dependency",
        "services:\n  orders: {command: x}\n  a: {command: x, depends_on: [order]}\n",
        [("3:32", "there is no service 'order' to depend on (did you mean 'orders'?)", "")],
    ),
    (
        "an engine misspelt",
        "databases:\n  db: {engine: postgre}\n",
        [
            (
                "2:16",
                "'engine' must be 'postgres', 'mysql' or 'mongodb', not 'postgre' (did you mean 'postgres'?)",
                "",
            )
        ],
    ),
    (
        "a database without an engine",
        "databases:\n  db: {version: 18}\n",
        [("2:3", "'databases.db' needs 'engine'", "")],
    ),
    (
        "a route to nobody",
        "gateway: {routes: {/a: oders}}\nservices:\n  orders: {command: x}\n",
        [("1:24", "there is no service 'oders' to route to (did you mean 'orders'?)", "")],
    ),
    (
        "a route to a database",
        "gateway: {routes: {/a: db}}\ndatabases:\n  db: {engine: postgres}\n",
        [("1:24", "cannot route to 'db': it is a database", "")],
    ),
    (
        "a source that is not there",
        "services:\n  a: {source: cod}\n",
        [("2:15", "the source 'cod' does not exist", "")],
    ),
    (
        "an env_file that is not there",
        "services:\n  a: {command: x, env_file: [.envv]}\n",
        [("2:30", "the env_file '.envv' does not exist", "")],
    ),
    (
        "a missing variable",
        "services:\n  a:\n    command: x\n    environment:\n      A: one ${TWO}\n",
        [
            (
                "5:14",
                "the variable 'TWO' is not set",
                "set it in the environment or in .env, or write ${TWO:-default}; $${TWO} leaves it to the shell",
            )
        ],
    ),
    (
        "an unknown reference",
        'services:\n  auth: {command: x}\n  a: {command: x, environment: {A: "${auht.url}"}}\n',
        [("3:37", "'${auht.url}': there is no 'auht' (did you mean 'auth'?)", "")],
    ),
    (
        "an unknown field",
        'services:\n  auth: {command: x}\n  a: {command: x, environment: {A: "${auth.ulr}"}}\n',
        [
            (
                "3:37",
                "'${auth.ulr}': the service 'auth' has no 'ulr' (did you mean 'url'?)",
                "it has: address, host, port, url",
            )
        ],
    ),
    (
        "a reserved name",
        "services:\n  gateway: {command: x}\n",
        [("2:3", "the name 'gateway' is reserved: it is the name of the stack's NGINX", "")],
    ),
    (
        "a name with capitals",
        "services:\n  Orders: {command: x}\n",
        [
            (
                "2:3",
                "the name of a service must be a name, not 'Orders'",
                "a name starts with a letter and has up to 40 of a-z, 0-9 and -",
            )
        ],
    ),
    (
        "environment as a list",
        "services:\n  a: {command: x, environment: [A=1]}\n",
        [
            (
                "2:32",
                "'environment' must be a map, not a list",
                "write 'A: value', not '- A=value'",
            )
        ],
    ),
    (
        "a broker without a name",
        "broker: {engine: nats}\nservices: {a: {command: x}}\n",
        [
            (
                "1:18",
                "'broker.engine' must be a map, not a text",
                "give it a name: 'nats: {engine: nats}'",
            )
        ],
    ),
    (
        "a database without a name",
        "databases:\n  engine: postgres\n  extensions: [postgis]\n",
        [
            (
                "2:11",
                "'databases.engine' must be a map, not a text",
                "give it a name: 'db: {engine: postgres}'",
            ),
            (
                "3:15",
                "'databases.extensions' must be a map, not a list",
                "give it a name: 'db: {extensions: …}'",
            ),
        ],
    ),
    (
        "conditions of Compose",
        "services:\n  a: {command: x}\n  b: {command: x}\n  c:\n    command: x\n    depends_on:\n      a: {condition: service_healthy}\n      b: service_started\n",
        [
            ("7:10", "'depends_on.a' must be one word, not a map", "write 'NAME: ready'"),
            (
                "8:10",
                "'depends_on.b' must be 'started', 'ready' or 'completed', not 'service_started'",
                "write 'started'",
            ),
        ],
    ),
    (
        "line ends that only YAML 1.1 knows",
        'services:\n  a: # \u2028 \x85\n    command: "x\u2028y"\n    source: u\u2029v\x85w\n    prot: 1\n',
        [
            ("4:13", "'source' must be printable text on one line", ""),
            ("5:5", "unknown key 'prot' (did you mean 'port'?)", ""),
        ],
    ),
    (
        "a variable without a value",
        "services:\n  a:\n    command: x\n    environment:\n      A:\n",
        [("5:7", "'environment.A' has no value", 'write a text; "" is an empty text')],
    ),
    (
        "a fixed port twice over",
        "services:\n  a: {command: x, port: {fixed: 8000}, replicas: 2}\n",
        [
            (
                "2:40",
                "'replicas' cannot be 2: its port is fixed, and only one program can listen on it",
                "have the program read $PORT and write the port without 'fixed'",
            )
        ],
    ),
    (
        "a key that looks like a tag of the reader's own",
        '"<map>": 1\n"[key]": 2\nservices:\n  a: {command: x}\n  "<text>": 1\n  "[key]": {command: x}\n',
        [
            (
                "1:1",
                "unknown key '<map>'",
                "known here: name, gateway, services, databases, broker",
            ),
            (
                "2:1",
                "unknown key '[key]'",
                "known here: name, gateway, services, databases, broker",
            ),
            (
                "5:3",
                "the name of a service must be a name, not '<text>'",
                "a name starts with a letter and has up to 40 of a-z, 0-9 and -",
            ),
            ("5:13", "'services.<text>' must be a map, not a text", ""),
            (
                "6:3",
                "the name of a service must be a name, not '[key]'",
                "a name starts with a letter and has up to 40 of a-z, 0-9 and -",
            ),
        ],
    ),
    (
        "such keys further in",
        'services:\n  a:\n    command: x\n    port: {"<map>": 1}\n    environment: {"[key]": y}\n    depends_on: [nobody]\n',
        [
            ("4:5", "'port' needs 'fixed'", ""),
            ("4:12", "unknown key '<map>'", "known here: fixed"),
            ("5:19", "a key of 'environment' must be the name of a variable, not '[key]'", ""),
            ("6:18", "there is no service 'nobody' to depend on", ""),
        ],
    ),
    (
        "a key with a NUL character",
        'services:\n  a: {command: x}\n  "b\\0": {command: x}\n',
        [("3:3", "a key or a value cannot contain a NUL character", "")],
    ),
]


@pytest.mark.parametrize(
    ("text", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_j01_a_broken_file_is_told_with_its_exact_place_and_a_hint(
    problems: Callable[..., list[Problem]], text: str, expected: list[tuple[str, str, str]]
) -> None:
    found = problems(text)

    assert [(f"{p.line}:{p.column}", p.message, p.hint) for p in found] == expected
    assert {p.file for p in found} == {"stack.yaml"}


def test_j01_there_are_at_least_forty_broken_files() -> None:
    assert len({text for _, text, _ in CASES}) >= 40


def test_j01_a_problem_is_shown_with_its_line_and_a_caret(
    problems: Callable[..., list[Problem]],
) -> None:
    [problem] = problems("services:\n  a:\n    comand: ./run\n")

    assert problem.render() == (
        "stack.yaml:3:5: unknown key 'comand' (did you mean 'command'?)\n"
        "        comand: ./run\n"
        "        ^"
    )


def test_j01_all_problems_are_told_at_once_in_the_order_of_their_places(
    problems: Callable[..., list[Problem]],
) -> None:
    found = problems(
        """\
gateway:
  prot: 8080
  routes: {/x: nobody}
services:
  orders:
    comand: ./orders
    port: 99999
    depends_on: [audit, bils]
    environment: {A: "${MISSING}", B: "${adit.url}", 1x: y}
  audit:
    command: ./audit
    run: docker
    depends_on: [orders]
databases:
  db: {engine: postgers}
"""
    )

    assert [f"{p.line}:{p.column} {p.message}" for p in found] == [
        "2:3 unknown key 'prot' (did you mean 'port'?)",
        "3:16 there is no service 'nobody' to route to",
        "6:5 unknown key 'comand' (did you mean 'command'?)",
        "7:11 'port' must be a port from 1 to 65535, not '99999'",
        "8:18 dependency cycle: orders → audit → orders (lines 8, 13)",
        "8:25 there is no service 'bils' to depend on",
        "9:23 the variable 'MISSING' is not set",
        "9:40 '${adit.url}': there is no 'adit' (did you mean 'audit'?)",
        "9:54 a key of 'environment' must be the name of a variable, not '1x'",
        "12:10 'run' cannot be 'docker' yet: not in this version",
        (
            "15:16 'engine' must be 'postgres', 'mysql' or 'mongodb', not 'postgers' "
            "(did you mean 'postgres'?)"
        ),
    ]


def test_j01_a_file_that_is_not_utf8_is_told_at_its_byte(
    load_text: Callable[..., Loaded],
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(b"name: shop\nservices:\n  a: {command: caf\xe9}\n")

    [problem] = caught.value.problems
    assert problem.where == "stack.yaml:3:19"
    assert problem.message == "cannot read stack.yaml: byte 0xe9 is not UTF-8"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("services: {a: {command: x, watch: {ignore: [b]}}}", "1:35"),
        ("services: {a: {command: x, watch: false}}", "1:35"),
        ("services: {a: {image: nginx}}", "1:23"),
        ("services: {a: {build: .}}", "1:23"),
        ("services: {a: {command: x, run: docker}}", "1:33"),
        ("services: {a: {command: x, run: kubernetes}}", "1:33"),
        ("services: {a: {command: x, profiles: [dev]}}", "1:38"),
        ("services: {a: {command: x, secrets: [n]}}", "1:37"),
        ("secrets: {n: {env: N}}\nservices: {a: {command: x}}", "1:10"),
        ("services: {a: {command: x, expose: lan}}", "1:36"),
        ("expose: lan\nservices: {a: {command: x}}", "1:9"),
        ("services: {a: {command: x, scheme: grpc}}", "1:36"),
        ("services: {a: {command: x, logs: {split: true}}}", "1:42"),
        ("gateway: {routes: {/a: {static: dist}}}\nservices: {a: {command: x}}", "1:33"),
        ('services: {a: {command: "cat ${secrets.n.path}"}}', "1:30"),
    ],
)
def test_what_is_not_in_this_version_parses_and_is_told_with_its_place(
    problems: Callable[..., list[Problem]], text: str, place: str
) -> None:
    [problem] = problems(text)

    assert f"{problem.line}:{problem.column}" == place
    assert "not in this version" in problem.message


def test_passwords_are_covered_in_the_lines_that_are_shown(
    problems: Callable[..., list[Problem]],
) -> None:
    found = problems(
        """\
services:
  a: {comand: x, environment: {DB_PASSWORD: hunter2, URL: "pg://me:hunter2@db/x"}}
databases:
  db: {engin: postgres, password: "hunter2"}
"""
    )

    shown = "\n".join(problem.render() for problem in found)
    assert "hunter2" not in shown
    assert "comand: x" in shown


def test_a_line_of_a_megabyte_is_not_shown(problems: Callable[..., list[Problem]]) -> None:
    long = "a" * 900_000

    early, late = problems(f"services: {{a: {{comand: x}}, b: {{command: {long}, prot: 1}}}}")

    assert early.render().splitlines()[1].strip().startswith("services: {a: {comand: x}")
    assert len(early.render()) < 300
    assert late.render() == "stack.yaml:1:900043: unknown key 'prot' (did you mean 'port'?)"
