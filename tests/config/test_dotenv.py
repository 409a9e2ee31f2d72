"""J09: the one grammar of `.env` and `env_file`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.config.dotenv import parse_env
from devstack.config.load import Loaded
from devstack.config.problems import Problem, Report
from devstack.core.template import literal

TABLE: list[tuple[str, dict[str, str]]] = [
    ("A=1", {"A": "1"}),
    ("A=1\nB=2\n", {"A": "1", "B": "2"}),
    ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
    ("\ufeffA=1", {"A": "1"}),
    ("A=", {"A": ""}),
    ("A=''", {"A": ""}),
    ('A=""', {"A": ""}),
    ("A", {}),
    ("  A = 1  ", {"A": "1"}),
    ("A=two words", {"A": "two words"}),
    ("A=x # comment", {"A": "x"}),
    ("A=x#y", {"A": "x#y"}),
    ("A=#x", {"A": "#x"}),
    ("A= # comment", {"A": ""}),
    ("# A=1\nB=2", {"B": "2"}),
    ("\n\n  \nA=1", {"A": "1"}),
    ("export A=1", {"A": "1"}),
    ("export  A='1'", {"A": "1"}),
    ("exported=1", {"exported": "1"}),
    ("A=$B", {"A": "$B"}),
    ("A=${B}", {"A": "${B}"}),
    ('A="${B:-x} $$"', {"A": "${B:-x} $$"}),
    ("A='$(id) `id`'", {"A": "$(id) `id`"}),
    ("A=a=b=c", {"A": "a=b=c"}),
    ("A='a # b'", {"A": "a # b"}),
    ('A="a # b" # c', {"A": "a # b"}),
    ("A=' x '", {"A": " x "}),
    ("A='it\\'s'", {"A": "it's"}),
    ("A='a\\nb'", {"A": "a\\nb"}),
    ('A="a\\nb\\tc"', {"A": "a\nb\tc"}),
    ('A="say \\"hi\\""', {"A": 'say "hi"'}),
    ('A="back\\\\slash"', {"A": "back\\slash"}),
    ("A=C:\\new\\table", {"A": "C:\\new\\table"}),
    ("A=it's", {"A": "it's"}),
    ('A=say "hi"', {"A": 'say "hi"'}),
    ("A='one\ntwo'\nB=3", {"A": "one\ntwo", "B": "3"}),
    ('A="one\r\ntwo"\r\nB=3', {"A": "one\ntwo", "B": "3"}),
    ('A="-----BEGIN-----\nMII=\n-----END-----\n"', {"A": "-----BEGIN-----\nMII=\n-----END-----\n"}),
    ("A=grün ✓", {"A": "grün ✓"}),
    ("A=1\nA=2", {"A": "2"}),
    ("A=1\nB=2\nA=3", {"B": "2", "A": "3"}),
    ("spring.datasource.url=x", {"spring.datasource.url": "x"}),
    ("A=postgres://u:p%40ss@db:5432/x?y=z&w=#f", {"A": "postgres://u:p%40ss@db:5432/x?y=z&w=#f"}),
    ('A={"json": [1, 2]}', {"A": '{"json": [1, 2]}'}),
    ("A=\tx\t", {"A": "x"}),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_j09_a_line_of_an_env_file_is_read_by_one_grammar(
    text: str, expected: dict[str, str]
) -> None:
    report = Report()

    values = parse_env(text, ".env", report)

    assert list(values.items()) == list(expected.items())
    assert report.problems == []


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("A='x", ".env:1:1", "cannot read this line"),
        ('A=1\n\nB="x\nC=2\n', ".env:3:1", "cannot read this line"),
        ("A=1\n=2", ".env:2:1", "cannot read this line"),
        ("A='x' y", ".env:1:1", "cannot read this line"),
        ("A B=1", ".env:1:1", "cannot read this line"),
        ("A=1\n1B=2", ".env:2:1", "'1B' cannot be the name of a variable"),
        ("A=x\0y", ".env:1:1", "a value cannot contain a NUL character"),
    ],
)
def test_j09_what_cannot_be_read_is_told_with_its_line(text: str, where: str, message: str) -> None:
    report = Report()

    parse_env(text, ".env", report)

    assert (report.problems[0].where, report.problems[0].message) == (where, message)


def test_j09_values_of_an_env_file_reach_the_service_as_they_are(
    load_text: Callable[..., Loaded],
) -> None:
    dotenv = b"A='$HOME ${X} # \"'\r\nB=\xe2\x9c\x93 caf\xc3\xa9\r\n"

    loaded = load_text("services:\n  a: {command: x, env_file: .env}\n", dotenv=dotenv)

    assert loaded.stack.service("a").env_file == (("A", '$HOME ${X} # "'), ("B", "✓ café"))
    assert [path.name for path in loaded.env_files] == [".env"]


def test_j09_dotenv_feeds_the_stack_file_only(load_text: Callable[..., Loaded]) -> None:
    loaded = load_text(
        "services:\n  a: {command: x, environment: {A: 'is ${V}'}}\n", dotenv="V=$A ${V}\n"
    )

    service = loaded.stack.service("a")
    assert service.environment == (("A", literal("is $A ${V}")),)
    assert service.env_file == ()


def test_later_env_files_win(folder: Path, load_text: Callable[..., Loaded]) -> None:
    (folder / "one.env").write_text("A=1\nB=1\n")
    (folder / "two.env").write_text("A=2\nC=2\n")

    loaded = load_text("services:\n  a: {command: x, env_file: [one.env, two.env]}\n")

    assert loaded.stack.service("a").env_file == (("B", "1"), ("A", "2"), ("C", "2"))


def test_j09_a_broken_env_file_names_its_line(problems: Callable[..., list[Problem]]) -> None:
    [problem] = problems(
        "services:\n  a: {command: x, env_file: .env}\n", dotenv='OK=1\nPEM="abc\nMIIabc=\n'
    )

    assert problem.where == ".env:2:1"
    assert "abc" not in problem.render()
