"""What can be asked of a stack: each listing as people see it and, with `--json`, as its schema says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands.kit import (
    PYTHON,
    ask,
    check_listing,
    eventually,
    free_port,
    say,
    speaker,
    word_of,
)
from tests.support.stacks import StackUnderTest, running, stack_in, write_stack

STACK = """\
name: hamlet
gateway:
  port: GATEWAY
  routes: {/: alpha}
services:
  alpha:
    command: [PYTHON, alpha.py]
    depends_on: [well, setup]
    env_file: [alpha.env]
    environment:
      API_TOKEN: very-secret
      GREETING: "hello ${self.port} ${worker2.host}"
      PORT: "1234"
  worker:
    command: "echo working; exec sleep 1000"
    port: none
  worker2:
    command: [PYTHON, alpha.py]
  setup:
    kind: job
    command: "sleep 0.5; ! test -e broken && echo set up >> jobs.txt && echo the job ran"
    depends_on: [well]
databases:
  well: {engine: postgres, seed: seed.sql}
"""
SEED = "CREATE TABLE buckets (id int); INSERT INTO buckets VALUES (1), (2);"


@pytest.fixture(scope="module")
def hamlet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUnderTest]:
    folder = tmp_path_factory.mktemp("listings") / "hamlet"
    folder.mkdir()
    text = STACK.replace("PYTHON", PYTHON).replace("GATEWAY", str(free_port()))
    files = {
        "alpha.py": speaker(),
        "alpha.env": "FROM_FILE=yes\nGREETING=from the file\n",
        "seed.sql": SEED,
    }
    write_stack(folder, text, files)
    with running(folder) as stack:
        yield stack


def listing(stack: StackUnderTest, *words: str) -> Any:
    found = json.loads(stack.devstack(*words, "--json").out)
    check_listing(words[0], found)
    assert found["schema"] == 1
    return found


def test_status_is_as_its_schema_says_and_has_what_was_promised(hamlet: StackUnderTest) -> None:
    found = listing(hamlet, "status")

    assert (found["stack"], found["runtime"]) == ("hamlet", "process")
    services = {s["name"]: s for s in found["services"]}
    kinds = {name: s["kind"] for name, s in services.items()}
    assert kinds == {
        "alpha": "service",
        "worker": "service",
        "worker2": "service",
        "setup": "job",
        "well": "database",
        "gateway": "gateway",
    }
    assert {s["state"] for s in services.values()} == {"ready", "done"}
    assert services["setup"]["state"] == "done"
    assert services["worker"]["url"] is None
    assert all(r["pid"] > 1 for s in services.values() for r in s["replicas"])


def test_status_of_people_has_a_line_for_each_service(hamlet: StackUnderTest) -> None:
    shown = hamlet.devstack("status").out

    for name in ("alpha", "worker", "worker2", "setup", "well", "gateway"):
        assert re.search(rf"^\S\s+{name}\s+(ready|done)\b", shown, re.MULTILINE), shown
    assert "\x1b" not in shown


def test_env_tells_the_origin_of_each_variable_and_masks_secrets(hamlet: StackUnderTest) -> None:
    variables = {v["name"]: v for v in listing(hamlet, "env", "alpha")["variables"]}
    shown = hamlet.devstack("env", "alpha").out

    assert variables["FROM_FILE"]["origin"] == "env_file"
    assert variables["GREETING"]["origin"] == "environment"
    assert variables["GREETING"]["overrides"] == ["env_file"]
    assert variables["API_TOKEN"]["value"] == "‹secret›"
    assert variables["PATH"]["origin"] == "shell"
    assert variables["WELL_HOST"] == {
        "name": "WELL_HOST",
        "value": "well",
        "origin": "injected (well)",
        "overrides": [],
    }
    assert "very-secret" not in shown
    identity = json.loads((hamlet.folder / ".devstack/identity.json").read_text())
    assert identity["passwords"]["well"] not in shown
    assert "DATABASE_URL=postgresql://devstack:‹secret›@well:5432/well" in shown
    told = ask(hamlet.gateway, "/env/PORT")[1]["value"]
    assert variables["PORT"]["value"] == told != "1234"
    assert variables["PORT"]["overrides"] == ["environment"]


def test_references_are_resolved_as_the_replica_sees_the_stack(hamlet: StackUnderTest) -> None:
    port = ask(hamlet.gateway, "/env/PORT")[1]["value"]

    assert ask(hamlet.gateway, "/env/GREETING")[1]["value"] == f"hello {port} worker2"
    assert ask(hamlet.gateway, "/env/API_TOKEN")[1]["value"] == "very-secret"


def test_why_endpoints_version_and_ls_are_as_their_schemas_say(hamlet: StackUnderTest) -> None:
    assert listing(hamlet, "why", "alpha")["state"] == "ready"
    endpoints = listing(hamlet, "endpoints")
    assert endpoints["gateway"] == hamlet.gateway
    assert [r["to"] for r in endpoints["routes"]] == ["alpha"]
    version = listing(hamlet, "version")
    assert version["controller"]["pid"] == hamlet.controller_pid
    stacks = listing(hamlet, "ls")["stacks"]
    (found,) = [s for s in stacks if s["folder"] == str(hamlet.folder)]
    assert (found["name"], found["state"], found["folder_exists"]) == ("hamlet", "running", True)
    head, *rows = hamlet.devstack("ls").out.splitlines()
    (row,) = [row for row in rows if str(hamlet.folder) in row]
    gateway = hamlet.gateway.rpartition(":")[2]
    assert row[head.index("PORTS") : head.index("FOLDER")].strip() == f"5432, 8080, {gateway}"


def test_validate_tells_every_problem_at_once(hamlet: StackUnderTest, tmp_path: Path) -> None:
    assert listing(hamlet, "validate")["valid"] is True
    write_stack(tmp_path, "services:\n  a:\n    comand: x\n  b:\n    command: x\n    port: 99999\n")
    other = StackUnderTest(tmp_path, hamlet.runtime)

    found = json.loads(other.devstack("validate", "--json", code=2).out)

    check_listing("validate", found)
    assert found["valid"] is False
    assert {p["line"] for p in found["problems"]} >= {3, 6}
    told = other.devstack("validate", code=2).err
    assert "stack.yaml:3:" in told
    assert "stack.yaml:6:" in told
    assert "command" in told
    assert not (tmp_path / ".devstack").exists()


def test_schema_is_a_json_schema_that_takes_this_very_file(hamlet: StackUnderTest) -> None:
    import jsonschema
    import yaml

    schema = json.loads(hamlet.devstack("schema").out)

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(
        yaml.safe_load((hamlet.folder / "stack.yaml").read_text())
    )
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({"servces": {}})
    assert json.loads((hamlet.folder / ".devstack/schema.json").read_text()) == schema


def test_logs_can_be_cut_searched_and_told_by_level(hamlet: StackUnderTest) -> None:
    gateway = hamlet.gateway
    for text in ("first apple", '{"level": "error", "msg": "a pear"}', "last apple"):
        say(gateway, text)

    def logs(*words: str) -> list[str]:
        return hamlet.devstack("logs", "alpha", *words).out.splitlines()

    eventually(lambda: any("last apple" in line for line in logs()), "it is in the log")
    assert [line.partition("| ")[2] for line in logs("--tail", "1")] == ["last apple"]
    assert [line.partition("| ")[2] for line in logs("--grep", "apple")] == [
        "first apple",
        "last apple",
    ]
    severe = logs("--level", "error")
    assert any("a pear" in line for line in severe)
    assert not any("first apple" in line for line in severe)
    assert logs("--since", "1h") == logs()
    assert logs("--grep", "nothing like it") == []
    assert all(line.startswith("alpha.1") for line in logs())


def test_logs_as_json_are_as_their_schema_says_and_raw_are_the_bytes(
    hamlet: StackUnderTest,
) -> None:
    lines = hamlet.devstack("logs", "--json").out.splitlines()
    for line in lines:
        check_listing("logs", json.loads(line))
    services = {json.loads(line)["service"] for line in lines}
    assert services >= {"alpha", "worker", "setup", "well"}

    assert hamlet.devstack("logs", "worker", "--raw").out == "working\n"


def test_output_of_jobs_and_of_preparing_is_a_stream_of_its_service(
    hamlet: StackUnderTest,
) -> None:
    assert "the job ran" in hamlet.devstack("logs", "setup").out
    built = hamlet.devstack("logs", "well", "--build").out
    assert built
    assert all(line.startswith("well") for line in built.splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ("logs", "nobody"),
        ("logs", "--grep", "("),
        ("logs", "--level", "loud"),
        ("logs", "--since", "soon"),
        ("logs", "--tail", "-1"),
    ],
)
def test_a_question_that_makes_no_sense_is_a_usage_error(
    hamlet: StackUnderTest, words: tuple[str, ...]
) -> None:
    refused = hamlet.devstack(*words, code=2)

    assert refused.out == ""
    assert "hint:" in refused.err


def test_reset_makes_the_data_anew_and_runs_its_seeds_and_jobs_again(
    hamlet: StackUnderTest,
) -> None:
    jobs = hamlet.folder / "jobs.txt"
    before = jobs.read_text()
    assert before.count("set up") == 1

    unasked = hamlet.devstack("reset", "well", code=2)
    assert "cannot remove data without a yes" in unasked.err
    assert "hint: devstack reset well --yes" in unasked.err
    assert jobs.read_text() == before
    assert word_of(hamlet, "well") == "ready"

    told = hamlet.devstack("reset", "well", "--yes")

    assert "made anew" in told.out
    assert jobs.read_text().count("set up") == 2
    hamlet.up()
    assert jobs.read_text().count("set up") == 2
    refused = hamlet.devstack("reset", "alpha", "--yes", code=2)
    assert "it is a service, not a database" in refused.err


def test_reset_tells_why_a_job_failed_on_the_new_data(hamlet: StackUnderTest) -> None:
    broken = hamlet.folder / "broken"
    broken.touch()

    told = hamlet.devstack("reset", "well", "--yes", code=1)

    assert "well: made anew\nsetup exited with code 1" in told.err
    assert word_of(hamlet, "well") == "ready"
    broken.unlink()
    hamlet.devstack("reset", "well", "--yes")
    assert word_of(hamlet, "setup") == "done"


def test_a_job_runs_once_for_a_revision_and_its_data(hamlet: StackUnderTest) -> None:
    jobs = hamlet.folder / "jobs.txt"
    before = jobs.read_text().count("set up")
    hamlet.devstack("down")
    hamlet.up()
    assert jobs.read_text().count("set up") == before

    path = hamlet.folder / "stack.yaml"
    path.write_text(path.read_text().replace("echo the job ran", "echo the new job ran"))
    hamlet.up()

    assert jobs.read_text().count("set up") == before + 1
    assert "the new job ran" in hamlet.devstack("logs", "setup").out


def test_down_with_volumes_lists_the_data_and_logs_are_read_without_a_controller(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    text = "services:\n  worker: {command: 'printf \"a\\nPANIC no newline\"; sleep 1000', port: none}\n"
    text += "databases:\n  well: {engine: postgres}\n"
    write_stack(folder, text)
    with stack_in(folder) as stack:
        stack.up()
        data = folder / ".devstack/data/well"
        assert data.is_dir()
        refused = stack.devstack("down", "--volumes", code=2)
        assert "cannot remove data without a yes" in refused.err
        assert stack.service("well")["state"] == "ready"

        told = stack.devstack("down", "--volumes", "--yes")

        assert str(data) in told.err + told.out
        assert not data.exists()
        assert stack.devstack("status", code=3).out == ""
        shown = stack.devstack("logs", "worker").out.splitlines()
        assert [line.partition("| ")[2] for line in shown] == ["a", "PANIC no newline"]
        assert stack.devstack("logs", "worker", "--raw").out == "a\nPANIC no newline"
