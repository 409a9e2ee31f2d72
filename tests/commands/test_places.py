"""Where a stack is found and where it keeps its things: other files, other folders, folders that are gone."""

import json
import os
import shutil
import signal
from pathlib import Path

from tests.commands.kit import PYTHON, ask, current, eventually, free_port, speaker, until_state
from tests.support.stacks import StackUnderTest, stack_in, write_stack

STACK = """\
name: NAME
gateway: {port: GATEWAY, routes: {/: alpha}}
services:
  alpha:
    command: [PYTHON, alpha.py]
    environment: {WHO: NAME}
"""


def text(name: str) -> str:
    return (
        STACK.replace("NAME", name).replace("PYTHON", PYTHON).replace("GATEWAY", str(free_port()))
    )


def test_the_file_is_searched_upwards_and_named_with_options(tmp_path: Path) -> None:
    folder = write_stack(_made(tmp_path / "here"), text("here"), {"alpha.py": speaker()})
    below = _made(folder / "deep/er")
    with stack_in(folder) as stack:
        inside = StackUnderTest(below, stack.runtime)
        outside = StackUnderTest(tmp_path, stack.runtime)

        inside.up()

        assert stack.service("alpha")["state"] == "ready"
        assert inside.status()["controller"] == stack.status()["controller"]
        named = outside.devstack("-C", "here", "status", "--json").out
        assert named == outside.devstack("status", "--json", "-f", "here/stack.yaml").out
        linked = tmp_path / "linked"
        linked.symlink_to(folder)
        through = StackUnderTest(linked, stack.runtime)
        assert through.status()["controller"] == stack.status()["controller"]
        inside.devstack("down")
        stack.devstack("status", code=3)


def test_two_stack_files_of_one_folder_run_side_by_side(tmp_path: Path) -> None:
    folder = write_stack(_made(tmp_path / "both"), text("usual"), {"alpha.py": speaker()})
    (folder / "other.yaml").write_text(text("other"))
    with stack_in(folder) as stack:
        other = StackUnderTest(folder, stack.runtime, file="other.yaml")
        try:
            stack.up()
            other.devstack("-f", "other.yaml", "up", "-d", "--wait")

            assert {s["name"] for s in _ls(stack, folder)} == {"usual", "other"}
            assert (folder / ".devstack/other.yaml/identity.json").is_file()
            assert ask(stack.gateway, "/env/WHO")[1]["value"] == "usual"
            shown = other.devstack("-f", "other.yaml", "env", "alpha").out
            assert "WHO=other" in shown
        finally:
            other.devstack("-f", "other.yaml", "down")
        assert stack.service("alpha")["state"] == "ready"


def test_an_override_file_is_merged(tmp_path: Path) -> None:
    folder = write_stack(_made(tmp_path / "merged"), text("merged"), {"alpha.py": speaker()})
    override = folder / "stack.override.yaml"
    override.write_text("services: {alpha: {replicas: 2, environment: {WHO: somebody}}}\n")
    with stack_in(folder) as stack:
        stack.up()
        assert len(current(stack, "alpha")) == 2
        assert ask(stack.gateway, "/env/WHO")[1]["value"] == "somebody"

        override.write_text("services: {alpha: {replcas: 2}}\n")
        refused = stack.devstack("up", "-d", "--wait", code=2)

        assert "stack.override.yaml:1:" in refused.err
        assert "replicas" in refused.err


def test_a_stack_whose_folder_is_gone_is_listed_and_stopped_by_its_id(tmp_path: Path) -> None:
    folder = write_stack(_made(tmp_path / "gone"), text("gone"), {"alpha.py": speaker()})
    with stack_in(folder) as stack:
        stack.up()
        pids = current(stack, "alpha")
        shutil.rmtree(folder)
        elsewhere = StackUnderTest(tmp_path, stack.runtime)

        (found,) = _ls(elsewhere, folder)
        assert (found["name"], found["folder_exists"], found["state"]) == ("gone", False, "running")
        elsewhere.devstack("down", "--stack", str(found["id"]))

        eventually(lambda: not _ls(elsewhere, folder), "it is no longer listed")
        for pid in pids:
            assert not Path(f"/proc/{pid}").exists()
        unknown = elsewhere.devstack("down", "--stack", "0123456789", code=2)
        assert "devstack ls" in unknown.err
        folder.mkdir()


def test_a_dry_run_prints_what_would_run_and_runs_nothing(tmp_path: Path) -> None:
    folder = write_stack(_made(tmp_path / "dry"), text("dry"), {"alpha.py": speaker()})
    with stack_in(folder) as stack:
        told = stack.devstack("up", "--dry-run")

        assert "alpha.py" in told.out
        assert not (folder / ".devstack").exists()
        stack.devstack("status", code=3)


def test_down_while_it_still_prepares_leaves_nothing(tmp_path: Path) -> None:
    slow = "services:\n  alpha: {command: sleep 1000, ready: {exec: 'sleep 30'}}\n"
    folder = write_stack(
        _made(tmp_path / "early"), slow + "databases: {well: {engine: postgres}}\n"
    )
    with stack_in(folder) as stack:
        stack.devstack("up", "-d")
        stack.devstack("down")
        stack.assert_nothing_left(within=2.0)

        stack.devstack("up", "-d")
        until_state(stack, "well", "ready", 150)  # a fresh machine fetches it first


def test_a_killed_controller_of_a_detached_stack_is_followed_by_one_that_knows_all(
    tmp_path: Path,
) -> None:
    folder = write_stack(_made(tmp_path / "led"), text("led"), {"alpha.py": speaker()})
    with stack_in(folder) as stack:
        stack.up()
        stack.devstack("scale", "alpha=3")
        before, controller = current(stack, "alpha"), stack.controller_pid

        os.kill(controller, signal.SIGKILL)

        eventually(
            lambda: (
                stack.devstack("status", code=None).code == 0 and stack.controller_pid != controller
            ),
            "another controller answers",
        )
        until_state(stack, "alpha", "ready")
        service = stack.service("alpha")
        assert current(stack, "alpha") == before
        assert (service["overridden"], service["desired"]) == (True, 3)
        stack.devstack("scale", "alpha=file")
        stack.devstack("restart", "alpha")
        assert ask(stack.gateway, "/")[0] == 200


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _ls(stack: StackUnderTest, folder: Path) -> list[dict[str, object]]:
    """What `ls` says of a folder; other stacks of this user may run beside the tests."""
    found: list[dict[str, object]] = json.loads(stack.devstack("ls", "--json").out)["stacks"]
    return [each for each in found if each["folder"] == str(folder)]
