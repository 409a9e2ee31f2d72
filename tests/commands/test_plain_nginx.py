"""A stack on an NGINX that is too old for a routing table: each change of replicas is a reload."""

import json
import os
from pathlib import Path

import pytest

from tests.commands.kit import PYTHON, KeepAlive, ask, current, free_port, speaker
from tests.support.stacks import stack_in, write_stack

PLAIN = os.environ.get("TEST_PLAIN_NGINX", "")
STACK = f"""\
name: old
gateway: {{port: GATEWAY, routes: {{/: speaker}}}}
services:
  speaker: {{command: [{PYTHON}, -I, speaker.py]}}
"""


@pytest.mark.skipif(not PLAIN, reason="no NGINX without njs here; TEST_PLAIN_NGINX names one")
def test_a_stack_runs_scales_and_renews_its_code_on_it_without_a_lost_request(
    tmp_path: Path,
) -> None:
    folder, programs = tmp_path / "old", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    (programs / "nginx").symlink_to(PLAIN)
    text = STACK.replace("GATEWAY", str(free_port()))
    write_stack(folder, text, {"speaker.py": speaker("one")})
    with stack_in(folder) as stack:
        # nothing can be fetched and nothing is in the cache: what is on PATH has to do
        stack.extra["XDG_CACHE_HOME"] = str(tmp_path / "cache")
        stack.extra["PATH"] = f"{programs}:{os.environ['PATH']}"
        told = stack.devstack("up", "-d", "--wait", "--offline")
        assert "this NGINX has no njs" in told.err, told.text
        asking = KeepAlive(stack.gateway)
        with asking.asking():
            stack.devstack("scale", "speaker=3")
            pids = set(stack.pids("speaker"))
            assert {ask(stack.gateway)[1]["pid"] for _ in range(30)} == pids
            (folder / "speaker.py").write_text(speaker("two"))
            stack.devstack("restart", "speaker")
            assert ask(stack.gateway)[1]["word"] == "two"
            assert not pids & set(current(stack, "speaker"))
            stack.devstack("scale", "speaker=1")
            assert ask(stack.gateway)[1]["word"] == "two"

        assert asking.failures == []
        assert json.loads(asking.words[-1])["word"] == "two"
