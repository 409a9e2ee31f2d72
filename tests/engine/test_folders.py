"""The folders of a checkout that devstack writes."""

import json
import os
import subprocess
from pathlib import Path

from devstack.api.checkout import wishes_file
from devstack.config.schema import json_schema
from devstack.engine.folders import Folders, read_jobs, write_jobs


def test_what_devstack_writes_is_in_one_folder_that_git_ignores(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path / "stack.yaml")

    folders.make()
    folders.make()

    assert folders.root == tmp_path / ".devstack"
    assert {path.name for path in folders.root.iterdir()} == {
        ".gitignore",
        "data",
        "logs",
        "state",
        "schema.json",
    }
    assert json.loads((folders.root / "schema.json").read_text()) == json_schema()
    assert folders.state.stat().st_mode & 0o777 == 0o700
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, env=git_environment())
    told = subprocess.run(
        ["git", "-C", str(tmp_path), "status", "--porcelain"],
        check=True,
        capture_output=True,
        text=True,
        env=git_environment(),
    )
    assert told.stdout == ""


def git_environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "HOME": "/nonexistent"}


def test_a_stack_file_of_another_name_has_folders_of_its_own_under_the_same_roof(
    tmp_path: Path,
) -> None:
    folders = Folders.of(tmp_path / "load.yaml")

    folders.make()

    assert folders.root == tmp_path / ".devstack" / "load.yaml"
    assert folders.identity == tmp_path / ".devstack" / "load.yaml" / "identity.json"
    assert folders.snapshot == Path(wishes_file(str(tmp_path / "load.yaml")))
    assert (tmp_path / ".devstack" / ".gitignore").read_text() == "*\n"
    assert (tmp_path / ".devstack" / "schema.json").exists()
    assert folders.logs != Folders.of(tmp_path / "stack.yaml").logs


def test_a_gitignore_of_the_users_is_left_as_it_is_and_an_old_schema_is_renewed(
    tmp_path: Path,
) -> None:
    folders = Folders.of(tmp_path / "stack.yaml")
    folders.make()
    (folders.root / ".gitignore").write_text("data/\n")
    (folders.root / "schema.json").write_text("{}")

    folders.make()

    assert (folders.root / ".gitignore").read_text() == "data/\n"
    assert json.loads((folders.root / "schema.json").read_text()) == json_schema()


def test_completed_jobs_are_remembered_beside_the_data_they_worked_on(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path / "stack.yaml")
    folders.make()

    write_jobs(folders.jobs, {"migrate": ["r1:d1"]})

    assert folders.jobs.parent == folders.data
    assert read_jobs(folders.jobs) == {"migrate": ["r1:d1"]}


def test_i04_garbage_about_jobs_is_as_if_nothing_were_known(tmp_path: Path) -> None:
    path = tmp_path / "jobs.json"
    for garbage in (b"", b"\0\xff", b"[]", b"{", b"3", b'{"migrate": 3}', b'{"migrate": [3]}'):
        path.write_bytes(garbage)

        assert read_jobs(path) == {}, garbage
    assert read_jobs(tmp_path / "none.json") == {}
