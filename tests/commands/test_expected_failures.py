"""What a machine or a stack file can do to a running stack: told in words, and the stack goes on."""

from pathlib import Path

from tests.commands.kit import PYTHON, free_port, speaker, until_state
from tests.support.stacks import stack_in, write_stack

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
