"""The JSON Schema that editors use: it accepts what loads and refuses what is misspelt."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from devstack.config.load import Loaded
from devstack.config.schema import json_schema
from devstack.config.schema_file import SCHEMA

GOOD = [
    """\
name: shop
x-anything: [goes]
gateway:
  port: {fixed: 8080}
  routes: {/: web, /old/: {to: web.admin, strip: true, timeout: 30s, stream: false}}
services:
  web:
    command: [run, --port, "${self.port}", 1, true]
    ports: {http: 80, admin: {port: 81}, raw: {port: 90, scheme: tcp}}
    depends_on: {db: started, nats: ready, once: completed}
    environment: {A: 1, B: true, C: "x", D: 1.5}
    restart: never
    stop: {signal: SIGINT, grace: 1m30s}
    ready: {http: /healthz, port: http, interval: 500ms, timeout: 1.5, failures: 3}
    alive: {exec: [a, b]}
    startup: {log: "ready.*"}
    start_timeout: 90
    x-note: {a: b}
  once: {command: ./once.sh, kind: job, depends_on: [db]}
  x-notes: [anything]
  worker: {command: ./work, port: none, replicas: "${WORKERS:-0}", scheme: http}
databases:
  db: {engine: postgres, version: 18, user: me, password: 1234, flags: [-c, x=y]}
broker:
  nats: {engine: nats, jetstream: true, port: 4223}
""",
    "services: {a: {run: fake, script: x, port: {fixed: 8000}}}",
    "gateway: {}\nservices: {a: {command: x, replicas: 3, update: recreate}}",
]

BAD = [
    "services: {a: {comand: x}}",
    "servces: {}",
    "services: {A: {command: x}}",
    "services: {a: {command: x, port: 70000}}",
    "services: {a: {command: x, port: nothing}}",
    "services: {a: {command: x, port: {fixd: 80}}}",
    "services: {a: {command: x, replicas: -1}}",
    "services: {a: {command: x, restart: sometimes}}",
    "services: {a: {command: x, stop: {grace: soon}}}",
    "services: {a: {command: x, stop: {signal: TERN}}}",
    "services: {a: {command: x, environment: [A=1]}}",
    "services: {a: {command: x, environment: {1A: x}}}",
    "services: {a: {command: x, depends_on: {b: healthy}}}",
    "services: {a: {command: x, ready: {http: healthz}}}",
    "services: {a: {command: [], port: none}}",
    "databases: {d: {version: 18}}",
    "databases: {d: {engine: oracle}}",
    "broker: {b: {engine: nats, jetstream: maybe}}",
    "gateway: {routes: {nowhere: a}}",
    "gateway: {routes: {'/a b': a}}",
    "services: [a]",
]

VALIDATOR = Draft202012Validator(json_schema())


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())

    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(json_schema())) == json_schema()


def test_the_schema_that_is_kept_is_the_one_that_the_models_make() -> None:
    assert json.loads(SCHEMA.read_text()) == json_schema(), "python -m devstack.config.schema_file"


@pytest.mark.parametrize("text", GOOD)
def test_the_schema_accepts_what_loads(load_text: Callable[..., Loaded], text: str) -> None:
    load_text(text)

    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize("text", BAD)
def test_the_schema_refuses_what_is_misspelt(text: str) -> None:
    assert not VALIDATOR.is_valid(yaml.safe_load(text))


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for owner, part in {"": schema, **schema["$defs"]}.items():
        for name, about in part.get("properties", {}).items():
            yield f"{owner}.{name}", about


def test_every_key_is_described() -> None:
    undescribed = [key for key, about in properties(json_schema()) if not about.get("description")]

    assert undescribed == []


def test_every_key_in_force_is_on_the_reference_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "stack-file.md").read_text("utf-8")
    keys = {
        key.rsplit(".", 1)[1]
        for key, about in properties(json_schema())
        if about["description"] != "Not in this version."
    }

    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []
