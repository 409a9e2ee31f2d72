"""The second stack: three services that were not written for devstack, and a PostgreSQL.

A path that only the sample takes would be a stub: this is the other stack that takes all of them.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.kit import ask, eventually
from tests.support.stacks import StackUnderTest, copy_strangers, running

READY_AGAIN_SECONDS = 90
"""More than the minute in which what changed often is called flapping."""
PARTS = ("ledger-db", "ledger", "rates", "ticker", "greeter", "gateway")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUnderTest]:
    folder = copy_strangers(tmp_path_factory.mktemp("strangers") / "stack")
    with running(folder) as stack:
        yield stack


def greeting(stack: StackUnderTest, gateway: str | None = None) -> str:
    """The whole chain: Node asks Flask, Flask asks PostgreSQL and Go."""
    status, answer = ask(gateway or stack.gateway, "/greet/opening?in=USD")
    return answer["greeting"] if status == 200 else f"{status} {answer}"


def access_log(stack: StackUnderTest) -> list[dict[str, str]]:
    """Its lines so far; the last one may be on its way still."""
    text = (stack.folder / ".devstack/state/gateway/access.log").read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def asked(stack: StackUnderTest, path: str, after: int) -> Counter[str]:
    """How many requests each replica got through the gateway since a line of the access log."""
    return Counter(
        line["replica"]
        for line in access_log(stack)[after:]
        if line["entry"] == "gateway" and line["path"].startswith(path)
    )


def test_the_whole_chain_answers_through_the_gateway(strangers: StackUnderTest) -> None:
    assert greeting(strangers) == "Good day, opening: 156.25 USD"


def test_what_was_entered_is_in_the_database(strangers: StackUnderTest) -> None:
    status, _ = ask(strangers.gateway, "/ledger/entries", account="tea", cents=500)

    assert status == 201
    assert ask(strangers.gateway, "/ledger/balance/tea")[1]["cents"] == 500


def test_a_name_and_a_port_that_are_written_in_code_are_dialled(strangers: StackUnderTest) -> None:
    """`http://rates:8080` in Go, `ledger-db:5432` in Python: nothing is injected for the worker."""
    variables = json.loads(strangers.devstack("env", "ticker", "--json").out)["variables"]

    eventually(
        lambda: (
            "ticking to http://rates:8080"
            in strangers.devstack("logs", "ticker", "--run", "current").out
        ),
        "it says whom it dials",
    )
    assert "TICK_URL" not in {variable["name"] for variable in variables}
    first = ask(strangers.gateway, "/ticks")[1]["ticks"]
    eventually(lambda: ask(strangers.gateway, "/ticks")[1]["ticks"] > first, "ticks come in")


@pytest.mark.parametrize("name", ["ledger", "rates", "greeter", "ledger-db"])
def test_env_lists_just_what_the_process_has(strangers: StackUnderTest, name: str) -> None:
    """What a pack adds to find its packages too; `PATH` first of all."""
    variables = json.loads(strangers.devstack("env", name, "--json").out)["variables"]
    [pid] = strangers.pids(name)
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    has = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    own = {
        variable: value for variable, value in has.items() if not variable.startswith("DEVSTACK_")
    }

    told = {v["name"]: v["value"] for v in variables}
    if name != "ledger-db":  # PostgreSQL overwrites its own
        assert told.keys() == own.keys()
    assert told["PATH"] == has.get("PATH", told["PATH"])
    hidden = {v for v in told if "‹secret›" in told[v]}
    assert {v: told[v] for v in told.keys() - hidden} == {
        v: own.get(v, told[v]) for v in told.keys() - hidden
    }


def test_services_are_dialled_on_the_same_port_number_under_their_names(
    strangers: StackUnderTest,
) -> None:
    listing = json.loads(strangers.devstack("endpoints", "--json").out)
    dialled = {e["service"]: [p["port"] for p in e["ports"]] for e in listing["endpoints"]}
    urls = {e["service"]: e["url"] for e in listing["endpoints"]}

    assert dialled["ledger"] == dialled["rates"] == dialled["greeter"] == [8080]
    assert dialled["ledger-db"] == [5432]
    assert len({urls["ledger"], urls["rates"], urls["greeter"]}) == 3
    assert ask(urls["rates"], "/rates/USD")[1] == {"rate": 1.25}
    assert ask(urls["ledger"], "/about")[1]["service"] == "ledger"


def test_a_worker_has_no_port_and_is_ready(strangers: StackUnderTest) -> None:
    worker = strangers.service("ticker")

    assert (worker["state"], worker["url"]) == ("ready", None)
    assert [replica["address"] for replica in worker["replicas"]] == [None]


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_part_comes_back_and_the_chain_answers_again(
    strangers: StackUnderTest, part: str
) -> None:
    gateway = strangers.gateway
    (before,) = strangers.service(part)["replicas"]

    os.kill(before["pid"], signal.SIGKILL)

    def is_back() -> bool:
        service = strangers.service(part)
        pids = [r["pid"] for r in service["replicas"]]
        return service["state"] == "ready" and before["pid"] not in pids

    eventually(is_back, f"{part} is back", READY_AGAIN_SECONDS)
    strangers.up()  # and the gateway knows it
    assert greeting(strangers, gateway) == "Good day, opening: 156.25 USD"
    assert ask(gateway, "/ledger/entries", account="after", cents=1)[0] == 201
    assert strangers.service(part)["replicas"][0]["restarts"] >= before["restarts"] + 1


@pytest.mark.parametrize("part", ["greeter", "rates"])
def test_three_replicas_share_the_requests_and_one_is_left_when_scaled_back(
    strangers: StackUnderTest, part: str
) -> None:
    paths = {"greeter": "/greet/opening", "rates": "/rates/EUR"}
    gateway = strangers.gateway
    strangers.devstack("scale", f"{part}=3")
    service = strangers.service(part)
    serving = {r["address"] for r in service["replicas"] if r["ready"]}
    before = len(access_log(strangers))

    for _ in range(60):
        assert ask(gateway, paths[part])[0] == 200

    assert (service["state"], service["ready"], service["overridden"]) == ("ready", 3, True)
    assert len(serving) == 3
    eventually(lambda: asked(strangers, paths[part], before).total() >= 60, "all are logged")
    shares = asked(strangers, paths[part], before)
    assert len(shares) == 3
    assert min(shares.values()) >= 10, f"not spread: {shares}"

    strangers.devstack("scale", f"{part}=1")
    assert strangers.service(part)["ready"] == 1
    for _ in range(20):
        assert ask(gateway, paths[part])[0] == 200
    strangers.devstack("scale", f"{part}=file")
    assert strangers.service(part)["overridden"] is False
