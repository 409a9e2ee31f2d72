"""Plain data and back: what a client sends and what a controller leaves is the stack that was loaded."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devstack.core.model import (
    ArgvCommand,
    Check,
    Endpoint,
    ExecProbe,
    Kind,
    Scheme,
    Service,
    SourceProgram,
    Stack,
)
from devstack.core.plain import NotPlain, from_plain, to_plain
from devstack.core.template import parse_template

WEB = Service(
    "web",
    Kind.SERVICE,
    SourceProgram("/src", ArgvCommand((parse_template("run --port ${self.port}"),))),
    endpoints=(Endpoint("http", 8080), Endpoint("raw", 9000, Scheme.TCP, fixed=True)),
    environment=(("DB", parse_template("${db.url}")),),
    ready=Check(ExecProbe(ArgvCommand((parse_template("true"),))), timeout_seconds=2),
)
STACK = Stack("shop", "0123456789", "/x/stack.yaml", "/x", {"web": WEB})


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(to_plain(value)))


def test_a_stack_comes_back_as_it_was() -> None:
    assert from_plain(through_json(STACK), Stack) == STACK


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.from_type(Stack))
def test_every_stack_comes_back_as_it_was(stack: Stack) -> None:
    plain = through_json(stack)

    # as text, in which a number that is none (nan) equals itself
    assert json.dumps(to_plain(from_plain(plain, Stack))) == json.dumps(plain)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), None),
        ((), []),
        (("type",), "Service"),
        (("name",), 3),
        (("name",), None),
        (("services",), []),
        (("services", "web", "kind"), "planet"),
        (("services", "web", "replicas"), True),
        (("services", "web", "replicas"), "3"),
        (("services", "web", "program"), {"type": "Stack"}),
        (("services", "web", "program"), "sh"),
        (("services", "web", "environment", 0), ["DB"]),
        (("services", "web", "ready", "probe", "type"), "GodProbe"),
        (("services", "web", "stranger"), 1),
        (("gateway",), "here"),
    ],
)
def test_what_is_no_stack_is_refused(path: tuple[str | int, ...], value: object) -> None:
    plain = {"": through_json(STACK)}
    inner: Any = plain
    for key in ("", *path)[:-1]:
        inner = inner[key]
    inner[("", *path)[-1]] = value

    with pytest.raises(NotPlain):
        from_plain(plain[""], Stack)


def test_a_field_that_is_missing_is_refused() -> None:
    plain = through_json(STACK)
    del plain["services"]["web"]["stop"]

    with pytest.raises(NotPlain):
        from_plain(plain, Stack)
