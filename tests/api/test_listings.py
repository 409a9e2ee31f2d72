"""Listings: the objects of `--json` by their schemas, and how they look to people."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import devstack.api
from devstack.api import listings, render
from devstack.api.text import age, columns, one_line, printable
from devstack.core.shape import wanted_shape
from devstack.core.state import State
from tests.api.scripted import Scripted, running_state

SCHEMAS = Path(str(devstack.api.__file__)).parent / "schemas"
NOW = 1_760_000_065.0


def schema_of(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text())
    return schema


@pytest.fixture
def control() -> Scripted:
    control = Scripted()
    control.state = running_state()
    return control


class TestSchemas:
    @pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
    def test_each_schema_is_one(self, path: Path) -> None:
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))

    @pytest.mark.parametrize(
        ("name", "make"),
        [
            ("status", listings.status),
            ("endpoints", listings.endpoints),
            ("env", lambda control: listings.environment(control, "api")),
            ("why", lambda control: listings.why(control, "api")),
        ],
    )
    @pytest.mark.parametrize("state", [State(), running_state()], ids=["empty", "running"])
    def test_what_the_controller_lists_is_as_its_schema_says(
        self, name: str, make: Callable[[Scripted], dict[str, Any]], state: State
    ) -> None:
        control = Scripted()
        control.state = state
        if name == "why" and state.stack is None:
            return

        listing = json.loads(json.dumps(make(control)))

        jsonschema.validate(listing, schema_of(name))
        assert listing["schema"] == 1


class TestStatus:
    def test_it_has_what_the_issue_names(self, control: Scripted) -> None:
        status = listings.status(control)
        assert status["stack"] == "shop"
        assert status["gateway"] == "http://127.0.0.1:8080"
        api, db = status["services"]
        assert (api["desired"], api["ready"], api["overridden"]) == (3, 1, True)
        assert (api["state"], api["kind"], api["warnings"]) == (
            "degraded",
            "service",
            ["a warning"],
        )
        assert db["last_exit"] == {
            "code": 3,
            "signal": None,
            "message": "exited with code 3",
            "at": "2025-10-09T08:53:21.000Z",
        }
        assert db["reason"] == "waits 4 s after the last exit"
        replica = next(r for r in api["replicas"] if r["slot"] == 1)
        assert replica | {"draining": None, "revision": None} == {
            "id": "api.1#7",
            "slot": 1,
            "pid": 4242,
            "address": "127.0.0.1:10240",
            "phase": "running",
            "ready": True,
            "draining": None,
            "restarts": 6,
            "revision": None,
            "started_at": "2025-10-09T08:53:20.000Z",
        }

    def test_a_gateway_has_no_url_where_it_has_loaded_another_port_than_the_file_wants(
        self, control: Scripted
    ) -> None:
        """Its new port is somebody else's: the URL would lead there."""
        state = control.state
        wanted = wanted_shape(state)
        gateway = replace(state.gateway, loaded=wanted)
        control.state = replace(state, gateway=gateway)
        assert listings.status(control)["gateway"] == "http://127.0.0.1:8080"

        for other in (replace(wanted, port=18080), replace(wanted, public=False)):
            control.state = replace(state, gateway=replace(gateway, loaded=other))
            assert listings.status(control)["gateway"] is None
            assert listings.endpoints(control)["gateway"] is None
            assert listings.entry(control, 0.0)["gateway"] is None

        routes = replace(wanted, routes=(("/old", "api", False, None, False),))
        control.state = replace(state, gateway=replace(gateway, loaded=routes))
        assert listings.status(control)["gateway"] == "http://127.0.0.1:8080"

    def test_what_a_cluster_made_has_no_pid_slot_or_address(self, control: Scripted) -> None:
        observed = next(
            r for r in listings.status(control)["services"][0]["replicas"] if r["slot"] is None
        )
        assert (observed["pid"], observed["address"], observed["restarts"]) == (None, None, 2)

    def test_people_read_the_override_beside_what_the_file_says(self, control: Scripted) -> None:
        lines = render.status_lines(listings.status(control), NOW, colour=False)
        assert lines == [
            "shop  http://127.0.0.1:8080  0 of 2 settled",
            "",
            "   NAME  STATE     READY              RESTARTS  AGE    URL",
            "◐  api   degraded  1/3 (file says 2)  8         1m05s  http://127.64.1.2:8080/#api",
            f"◐  db    {lines[4].split()[2]:<8}  0/1                0         -      -",
            "    waits 4 s after the last exit",
            "",
            "! api: a warning",
            "! names: every service by its own name",
        ]

    def test_colours_come_only_where_they_are_asked_for(self, control: Scripted) -> None:
        status = listings.status(control)
        assert "\x1b[33mdegraded\x1b[0m" in "\n".join(render.status_lines(status, NOW, colour=True))
        assert "\x1b" not in "\n".join(render.status_lines(status, NOW, colour=False))


def test_env_says_where_each_value_comes_from(control: Scripted) -> None:
    listing = listings.environment(control, "api")
    assert render.environment_lines(listing, colour=False) == [
        "PORT=10240  # devstack, over environment",
        "DB_PASSWORD=‹secret›  # injected",
    ]


def test_endpoints_name_routes_and_ports(control: Scripted) -> None:
    assert render.endpoint_lines(listings.endpoints(control), colour=False) == [
        "NAME     URL                          PORTS",
        "gateway  http://127.0.0.1:8080        /api → api",
        "api      http://127.64.1.2:8080/#api  8080/http",
        "db       -                            8080/http",
    ]


def test_nothing_from_a_program_moves_the_cursor() -> None:
    assert printable("a\x1b[2Jb\rc\x07\u202ed") == "a [2Jb c  d"
    assert one_line("first\nsecond") == "first …"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (59.9, "59s"), (65, "1m05s"), (7500, "2h05m"), (200_000, "2d7h")],
)
def test_an_age_is_told_in_two_units(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_columns_count_the_width_that_terminals_show() -> None:
    assert columns([("日本", "x"), ("a\u0301b", "y"), ("", "z")]) == [
        "日本  x",
        "a\u0301b    y",
        "      z",
    ]
