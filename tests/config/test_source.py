"""Reading YAML: limits that hold while reading, anchors and merge keys, and the traps of YAML 1.1."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from yaml.events import Event

from devstack.config.load import Loaded
from devstack.config.problems import Problem, Report
from devstack.config.source import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    Items,
    Scalar,
    Section,
    Unreadable,
    compose,
    read_text,
    read_tree,
)
from devstack.core.model import EngineProgram
from devstack.core.template import literal


def bomb(levels: int = 9) -> str:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels + 1)]
    return "\n".join(lines)


class Counted:
    """Parser events, counted as they are taken: the measure of work that needs no clock."""

    def __init__(self, text: str) -> None:
        self.taken = 0
        self._events = yaml.parse(text, Loader=yaml.SafeLoader)

    def __iter__(self) -> Iterator[Event]:
        for event in self._events:
            self.taken += 1
            yield event


def refused(text: str) -> tuple[Counted, Problem]:
    report, events = Report(), Counted(text)
    with pytest.raises(Unreadable):
        compose(iter(events), "stack.yaml", report)
    [problem] = report.problems
    return events, problem


def test_k08_a_bomb_of_aliases_is_refused_after_as_many_events_as_it_has_letters() -> None:
    text = bomb()
    assert len(text) < 600

    events, problem = refused(text)

    assert problem.message == f"more than {MAX_NODES} values"
    assert events.taken < 120


def test_k08_a_bomb_of_merge_keys_is_refused_too() -> None:
    lines = ["a0: &a0 {k: x}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 10)]

    events, problem = refused("\n".join(lines))

    assert problem.message == f"more than {MAX_NODES} values"
    assert events.taken < 160


def test_k08_nesting_is_refused_at_the_first_level_too_deep() -> None:
    events, problem = refused("a: " + "[" * 3000)

    assert problem.message == f"nested deeper than {MAX_DEPTH} levels"
    assert (problem.line, problem.column) == (1, 4 + MAX_DEPTH - 1)
    assert events.taken < MAX_DEPTH + 10


def test_k08_the_fast_parser_survives_a_megabyte_of_brackets() -> None:
    report = Report()

    with pytest.raises(Unreadable):
        read_tree("a: " + "[" * (MAX_BYTES - 10), "stack.yaml", report)

    assert [p.message for p in report.problems] == [f"nested deeper than {MAX_DEPTH} levels"]


def test_k08_an_alias_counts_towards_the_depth_it_stands_in() -> None:
    inner, outer = MAX_DEPTH - 10, 20
    text = f"a: &a {'[' * inner}{']' * inner}\nb: {'[' * outer}*a{']' * outer}"

    _, problem = refused(text)

    assert problem.message == f"nested deeper than {MAX_DEPTH} levels"
    assert problem.line == 2


def test_k08_a_list_beyond_the_limit_is_refused_at_the_limit() -> None:
    events, problem = refused("a: [" + "x," * (10 * MAX_NODES) + "]")

    assert problem.message == f"more than {MAX_NODES} values"
    assert events.taken < MAX_NODES + 10


def test_k08_as_many_values_and_levels_as_allowed_are_read() -> None:
    depth = MAX_DEPTH - 1
    text = f"a: {'[' * depth}{']' * depth}\nb: [{'x,' * (MAX_NODES - depth - 5)}]"

    tree = read_tree(text, "stack.yaml", Report())

    assert set(tree) == {"a", "b"}


def test_k08_a_large_file_is_refused_after_its_first_mebibyte(tmp_path: Path) -> None:
    path = tmp_path / "stack.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    report = Report()

    with pytest.raises(Unreadable):
        read_text(path, "stack.yaml", report)

    assert [p.message for p in report.problems] == [
        "cannot read stack.yaml: it is larger than 1 MiB"
    ]


def test_k08_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    messages = []
    for name in ("fifo", ".", "missing"):
        report = Report()
        with pytest.raises(Unreadable):
            read_text(tmp_path / name, name, report)
        messages += [p.message for p in report.problems]

    assert messages == [
        "cannot read fifo: it is not a regular file",
        "cannot read .: it is a folder",
        "cannot read missing: no such file or directory",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [id]",
        "a: !!python/name:os.system",
        "a: !!binary aGk=",
        "a: !!set {x}",
        "a: !mine x",
        "!!python/object:x.Y {a: b}",
    ],
)
def test_k08_only_the_tags_of_plain_values_are_allowed(text: str) -> None:
    _, problem = refused(text)

    assert "is not allowed" in problem.message


def test_k08_variables_cannot_multiply_into_gigabytes(
    problems: Callable[..., list[Problem]],
) -> None:
    environment = "".join(f"      V{n}: ${{BIG}}\n" for n in range(1000))

    [problem] = problems(
        f"services:\n  a:\n    command: x\n    environment:\n{environment}",
        environment={"BIG": "x" * 100_000},
    )

    assert problem.message == "the variables filled in make more than 4 MiB"


def test_an_anchor_inside_itself_is_refused() -> None:
    _, problem = refused("a: &a [*a]")

    assert problem.message == "the anchor 'a' stands inside itself"


def test_every_value_knows_its_place() -> None:
    tree = read_tree("a:\n  b: [x, {c: d}]\n", "stack.yaml", Report())

    a = tree["a"]
    assert isinstance(a, Section)
    b = a["b"]
    assert isinstance(b, Items)
    x, inner = b
    assert isinstance(x, Scalar)
    assert isinstance(inner, Section)
    assert str(a.key_place("b")) == "stack.yaml:2"
    assert (x.place.line, x.place.column) == (2, 7)
    assert (inner.key_place("c").line, inner.key_place("c").column) == (2, 11)


def test_the_parser_in_c_and_the_one_in_python_give_the_same_tree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (
        "a: &x {b: 'c', d: \"e\\tä\"}\nf: [*x, ~, '']\ng:\n  <<: *x\n  h: |\n    two\n    lines\n"
    )
    fast = read_tree(text, "stack.yaml", Report())

    slow = compose(iter(yaml.parse(text, Loader=yaml.SafeLoader)), "stack.yaml", Report())

    assert fast == slow
    assert fast.key_places == slow.key_places


def test_anchors_and_merge_keys_work_and_own_keys_win(load_text: Callable[..., Loaded]) -> None:
    loaded = load_text(
        """\
x-usual: &usual
  command: ./run
  replicas: 2
  environment: &env {A: "1", B: "2"}
x-more: &more {replicas: 5, start_timeout: 30s}
services:
  a:
    <<: *usual
  b:
    <<: [*usual, *more]
    environment: {<<: *env, B: "3"}
"""
    )

    a, b = loaded.stack.service("a"), loaded.stack.service("b")
    assert (a.replicas, a.environment) == (2, (("A", literal("1")), ("B", literal("2"))))
    assert (b.replicas, b.start_timeout_seconds) == (2, 30.0)
    assert dict(b.environment) == {"A": literal("1"), "B": literal("3")}


def test_a_mistake_below_an_anchor_is_told_once_at_the_anchor(
    problems: Callable[..., list[Problem]],
) -> None:
    [problem] = problems(
        "x-e: &e {comand: x}\nservices:\n  a: {<<: *e, command: y}\n  b: {<<: *e, command: y}\n"
    )

    assert (problem.line, problem.message[:20]) == (1, "unknown key 'comand'")


def test_keys_that_start_with_x_are_ignored_everywhere(load_text: Callable[..., Loaded]) -> None:
    loaded = load_text(
        """\
x-top: ${NOT_SET}
services:
  x-notes: [anything]
  a: {command: x, x-owner: me, ready: {tcp: true, x-why: y}, stop: {x-z: 1}}
databases:
  db: {engine: postgres, x-a: {b: c}}
gateway: {x-a: b, routes: {/a: {to: a, x-c: d}}}
"""
    )

    assert set(loaded.stack.services) == {"a", "db", "gateway"}


J02_TEXTS = [
    ("no", "a truth value"),
    ("yes", "a truth value"),
    ("On", "a truth value"),
    ("off", "a truth value"),
    ("22:22", "a number to the base of 60"),
    ("1:30:00", "a number to the base of 60"),
    ("010", "an octal number"),
    ("0755", "an octal number"),
    ("1.10", "a number without its last zeros"),
    ("true", None),
    ("1.1", None),
    ("8080", None),
    ("0x1F", None),
    ("1e3", None),
    ("2024-01-01", None),
    (".5", None),
    ("y", None),
    ("NaN", None),
    ("=", None),
]


@pytest.mark.parametrize(("typed", "trap"), J02_TEXTS)
def test_j02_a_text_is_what_was_typed_and_a_trap_is_warned_of(
    load_text: Callable[..., Loaded], typed: str, trap: str | None
) -> None:
    text = (
        f"services:\n  a:\n    command: x\n    environment:\n      A: {typed}\n      B: '{typed}'\n"
    )

    loaded = load_text(text)

    values = dict(loaded.stack.service("a").environment)
    assert values == {"A": literal(typed), "B": literal(typed)}
    warnings = [(w.line, w.column, w.message, w.hint) for w in loaded.warnings]
    expected = (
        f"{typed} is read as a text; other YAML readers make {trap} of it",
        f'write "{typed}"',
    )
    assert warnings == ([(5, 10, *expected)] if trap else [])


@pytest.mark.parametrize("version", ["1.10", "18", '"18"', "010", "10.11"])
def test_j02_versions_are_texts(load_text: Callable[..., Loaded], version: str) -> None:
    loaded = load_text(f"databases:\n  db: {{engine: postgres, version: {version}}}\n")

    program = loaded.stack.service("db").program
    assert isinstance(program, EngineProgram)
    assert program.version == version.strip('"')


@pytest.mark.parametrize("port", ["22:22", "010", "no", "0x50", "8_080", "8080.0", "1e3", "+80"])
def test_j02_ports_are_digits_only(problems: Callable[..., list[Problem]], port: str) -> None:
    [problem] = problems(f"services:\n  a: {{command: x, port: {port}}}\n")

    assert problem.message == f"'port' must be a port from 1 to 65535, not '{port}'"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("true", True), ("yes", True), ("On", True), ("no", False), ("FALSE", False), ("off", False)],
)
def test_j02_truth_values_are_read_where_they_belong(
    load_text: Callable[..., Loaded], typed: str, meant: bool
) -> None:
    loaded = load_text(f"broker:\n  nats: {{engine: nats, jetstream: {typed}}}\n")

    program = loaded.stack.service("nats").program
    assert isinstance(program, EngineProgram)
    assert program.jetstream is meant
    assert loaded.warnings == ()


def test_line_ends_that_only_yaml_1_1_knows_stay_in_texts(
    load_text: Callable[..., Loaded],
) -> None:
    text = "a\u2028b\x85c\u2029d\ue000e"

    loaded = load_text(f'services:\n  a: {{command: x, environment: {{A: "{text}", B: {text}}}}}\n')

    assert [str(value) for _, value in loaded.stack.service("a").environment] == [text, text]
