"""What `devstack restart` answers where the new replica starts and is no use."""

from tests.commands.kit import KeepAlive, Make, ask, current, edited


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
