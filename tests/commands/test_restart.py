"""`devstack restart` where what runs or is prepared is no use: what it answers, and what it ends."""

import socket

from tests.commands.kit import KeepAlive, Make, ask, current, edited, eventually, listener
from tests.support.stacks import StackUnderTest


def test_a_source_that_starts_and_never_gets_ready_leaves_the_old_one_serving_and_is_told(
    make: Make,
) -> None:
    stack = make(
        """\
gateway: {port: GATEWAY, routes: {/: alpha}}
services:
  alpha:
    command: [PYTHON, alpha.py]
    ready: {http: /healthz}
    start_timeout: 20s
"""
    )
    stack.up()
    gateway, before = stack.gateway, current(stack, "alpha")

    with (
        edited(stack.folder / "alpha.py", "503 if sick", '500 if self.path == "/healthz"'),
        KeepAlive(gateway).asking() as client,
    ):
        failed = stack.devstack("restart", "alpha", code=1)
        answered = ask(gateway)[1]["pid"]
        service = stack.service("alpha")
        why = stack.devstack("why", "alpha").out

    reason = "not ready within 20 s: answered 500 Internal Server Error"
    assert reason in failed.err, failed.text
    assert "alpha" in failed.err
    assert [answered] == before
    assert client.failures == []
    assert [r["pid"] for r in service["replicas"] if r["ready"]] == before
    assert service["state"] == "ready"
    assert any(reason in warning for warning in service["warnings"]), service
    assert reason in why

    stack.devstack("restart", "alpha")
    assert set(current(stack, "alpha")).isdisjoint(before)


def installs(stack: StackUnderTest) -> bool:
    return any(" pip install " in found.command for found in stack.left())


def asked(index: socket.socket) -> socket.socket:
    """The connection on which uv, which has read its requirements by then, asks this index."""
    index.settimeout(90)
    return index.accept()[0]


def test_an_installation_that_hangs_ends_with_stop_and_makes_way_for_what_was_mended(
    make: Make,
) -> None:
    stack = make("services:\n  alpha: {source: ., command: [python, alpha.py]}\n")
    wanted = stack.folder / "requirements.txt"
    with listener(0) as silent:  # an index that takes the connection and never answers
        port = silent.getsockname()[1]
        wanted.write_text(f"--index-url http://127.0.0.1:{port}/simple\nno-such-package\n")
        stack.devstack("up", "-d")
        with asked(silent):
            assert installs(stack)
            stack.devstack("stop", "alpha")
            eventually(lambda: not installs(stack), "uv has ended", 90)
        assert stack.service("alpha")["state"] == "stopped"

    with listener(port) as silent:
        stack.devstack("start", "alpha", "--no-wait")
        with asked(silent):
            assert installs(stack)
            wanted.unlink()
            stack.devstack("restart", "alpha")
        assert not installs(stack)

    why = stack.devstack("why", "alpha").out
    assert "preparation stops: alpha was stopped" in why
    assert "preparation stops: a newer revision is wanted" in why
