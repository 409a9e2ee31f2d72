"""What a machine or a stack file can do to a running stack: told in words, and the stack goes on."""

import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.commands.kit import PYTHON, KeepAlive, ask, eventually, free_port, speaker, until_state
from tests.support.keepers import read_if_there
from tests.support.stacks import StackUnderTest, stack_in, write_stack

WEB = """\
gateway:
  port: GATEWAY
  routes: {/: web}
services:
  web:
    source: .
    command: [PYTHON, speaker.py]
"""


def small(folder: Path, text: str, **files: str) -> Path:
    """A folder with a stack of speakers (PYTHON and GATEWAY stand for the real ones)."""
    folder.mkdir()
    text = text.replace("PYTHON", PYTHON).replace("GATEWAY", str(free_port()))
    return write_stack(folder, text, {"speaker.py": speaker(), **files})


def test_a_database_with_a_flag_it_does_not_know_fails_with_its_own_words(tmp_path: Path) -> None:
    text = WEB + "databases:\n  db: {engine: postgres, flags: [-c, no_such=1]}\n"
    with stack_in(small(tmp_path / "flags", text)) as stack:
        failed = stack.devstack("up", "-d", "--wait", code=1)

        assert 'unrecognized configuration parameter "no_such"' in failed.err
        assert "unrecognized configuration parameter" in stack.devstack("why", "db").out
        until_state(stack, "web", "ready")
        file = stack.folder / "stack.yaml"
        file.write_text(file.read_text().replace("no_such=1", "work_mem=8MB"))
        stack.devstack("up", "-d", "--wait")


def test_a_gateway_that_insists_on_a_port_that_is_taken_is_not_said_to_answer_there(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = f"gateway: {{port: {{fixed: {port}}}, routes: {{/: web}}}}\n"
        services = f"services:\n  web: {{command: [{PYTHON}, speaker.py]}}\n"
        folder = tmp_path / "taken"
        folder.mkdir()
        write_stack(folder, text + services, {"speaker.py": speaker()})
        with stack_in(folder) as stack:
            failed = stack.devstack("up", "-d", "--wait", code=1)

            assert f"port {port} is in use by pid {os.getpid()}" in failed.err
            assert "answers on" not in failed.out, failed.text


def test_a_stack_whose_state_is_removed_serves_on_and_keeps_it_again(tmp_path: Path) -> None:
    """`git clean -fdx`, or a full disk: what is kept for the next controller is no reason to end."""
    with stack_in(small(tmp_path / "cleaned", WEB)) as stack:
        stack.up()
        controller, gateway = stack.controller_pid, stack.gateway
        state = stack.folder / ".devstack" / "state"
        shutil.rmtree(state)
        assert ask(gateway)[0] == 200

        assert stack.devstack("scale", "web=2").out == "web: 2 serving\n"
        until_state(
            stack, "gateway", "ready"
        )  # its socket was removed, too: another one was started

        eventually((state / "snapshot.json").is_file, "the snapshot is there again")
        assert (state / "addresses.json").is_file()
        assert stack.gateway == gateway
        heard = {ask(gateway)[1]["pid"] for _ in range(20)}
        assert heard == set(stack.pids("web"))

        # as on a full disk: it cannot be written, and then it can
        shutil.rmtree(stack.folder / ".devstack" / "state")
        state.touch()
        stack.devstack("scale", "web=1", seconds=60)
        state.unlink()
        stack.devstack("scale", "web=2", seconds=60)
        eventually((state / "snapshot.json").is_file, "the snapshot is there once more")
        history = state / "history.jsonl"  # is written after it
        eventually(lambda: f"cannot write {state}" in read_if_there(history), "it is told")
        assert history.read_text().count(f"cannot write {state}") == 1
        assert stack.controller_pid == controller


@pytest.mark.parametrize(
    "written",
    [
        '{"slots": [["gone", 3], ["web", 10]], "endpoints": [["gone", [["main", 1, "http"]]]]}',
        '{"slots": [["web", 10]], "colour": "of a later version"}',
        '{"slots": 7}',
        "[]",
    ],
)
def test_the_next_controller_takes_over_an_nginx_whose_configuration_it_does_not_understand(
    tmp_path: Path, written: str
) -> None:
    """Of services that have left the file meanwhile, of another version, or of nobody."""
    with stack_in(small(tmp_path / "adopted", WEB)) as stack:
        stack.up()
        controller, pids = stack.controller_pid, [*stack.pids("gateway"), *stack.pids("web")]
        (stack.folder / ".devstack" / "state" / "gateway" / "shape.json").write_text(written)
        asking = KeepAlive(stack.gateway)
        with asking.asking():
            os.kill(controller, signal.SIGKILL)
            eventually(lambda: has_another_controller(stack, controller), "another controller")
            stack.devstack("up", "-d", "--wait")

        assert [*stack.pids("gateway"), *stack.pids("web")] == pids
        assert asking.failures == []
        stack.devstack("scale", "web=2")
        assert {ask(stack.gateway)[1]["pid"] for _ in range(20)} == set(stack.pids("web"))


def has_another_controller(stack: StackUnderTest, pid: int) -> bool:
    found = stack.devstack("status", "--json", code=None)
    return found.code == 0 and json.loads(found.out)["controller"]["pid"] != pid


def test_a_command_that_waits_for_a_service_ends_when_it_leaves_the_stack_file(
    tmp_path: Path,
) -> None:
    never = "  slow: {source: ., command: [PYTHON, speaker.py], ready: {log: never}}\n"
    with stack_in(small(tmp_path / "leaving", WEB + never)) as stack:
        stack.devstack("up", "-d")
        controller = stack.controller_pid
        commands = (("restart", "slow"), ("scale", "slow=2"), ("start", "slow"))
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        waiting = [stack.start(*words, **options) for words in commands]
        history = stack.folder / ".devstack" / "state" / "history.jsonl"
        heard = ("restart requested", "scale to 2", "start requested")
        eventually(lambda: all(line in read_if_there(history) for line in heard), "all are heard")
        file = stack.folder / "stack.yaml"
        file.write_text(file.read_text().replace(never.replace("PYTHON", PYTHON), ""))
        stack.devstack("up", "-d", "--wait")

        for command in waiting:
            said, complained = command.communicate(timeout=60)
            assert (command.returncode, said) == (1, b""), complained
            assert b"slow was removed from the stack file" in complained
        assert stack.controller_pid == controller


def test_waiting_for_what_will_never_come_ends_at_once(tmp_path: Path) -> None:
    text = WEB + "    depends_on: [short]\n  short: {command: 'true'}\n"
    with stack_in(small(tmp_path / "vain", text)) as stack:
        failed = stack.devstack("up", "-d", "--wait", code=1, seconds=60)
        assert "short: ended with code 0 and is not started again; if that is all" in failed.err

        failed = stack.devstack("start", "web", code=1, seconds=60)
        assert "waiting for short (ready), which failed" in failed.err

        # the one that it waits for is started beside it
        file = stack.folder / "stack.yaml"
        file.write_text(file.read_text().replace("'true'", f"{PYTHON} speaker.py"))
        stack.devstack("stop", "short")
        stack.devstack("up", "-d")
        stack.devstack("start", "web", "short", seconds=60)
