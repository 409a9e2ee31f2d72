"""`devstack restart` with changed sources: each language is prepared and replaced while it serves.

A source that does not build (Go) or does not start (Python, Node) leaves the old one serving.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.commands.kit import KeepAlive, ask, current, edited, eventually
from tests.support.stacks import StackUnderTest, copy_strangers, running


@dataclass(frozen=True, slots=True)
class Change:
    """How a service is changed, and where it is seen."""

    service: str
    file: str
    path: str
    old: str
    new: str
    good: tuple[str, str]
    """Text in the file, its replacement: answers `new` instead of `old`."""
    broken: tuple[str, str]


GO = Change(
    service="rates",
    file="exchange/internal/rates/rates.go",
    path="/rates/USD",
    old="1.25",
    new="1.75",
    good=("1.25", "1.75"),
    broken=("return rate, nil", "return rate + nothing, nil"),
)
PYTHON = Change(
    service="ledger",
    file="ledger/ledger/views.py",
    path="/ledger/about",
    old="ledger",
    new="new-ledger",
    good=('service="ledger"', 'service="new-ledger"'),
    broken=("bp = Blueprint(", "bp = = Blueprint("),
)
NODE = Change(
    service="greeter",
    file="greeter/src/server.js",
    path="/greet/opening",
    old="Good day",
    new="Good evening",
    good=("Good day", "Good evening"),
    broken=("const app = express();", "const app = = express();"),
)
CHANGES = [pytest.param(c, id=c.service) for c in (GO, PYTHON, NODE)]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUnderTest]:
    folder = copy_strangers(tmp_path_factory.mktemp("restart") / "stack")
    with running(folder) as stack:
        yield stack


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_is_prepared_and_replaces_the_old_without_a_failed_request(
    strangers: StackUnderTest, change: Change
) -> None:
    gateway, before = strangers.gateway, current(strangers, change.service)
    others = {n: current(strangers, n) for n in ("ledger-db", "gateway", "ticker")}

    with edited(strangers.folder / change.file, *change.good):
        with KeepAlive(gateway, change.path).asking() as client:
            eventually(lambda: client.words, "it has asked")
            strangers.devstack("restart", change.service)
            after = json.dumps(ask(gateway, change.path)[1])

        assert change.new in after
        assert client.failures == []
        assert change.old in client.words[0]
        assert set(current(strangers, change.service)).isdisjoint(before)
        assert {n: current(strangers, n) for n in others} == others
    strangers.devstack("restart", change.service)
    assert change.old in json.dumps(ask(gateway, change.path)[1])


@pytest.mark.parametrize("change", CHANGES)
def test_a_broken_source_leaves_the_old_serving_and_tells_file_and_line(
    strangers: StackUnderTest, change: Change
) -> None:
    gateway, before = strangers.gateway, current(strangers, change.service)
    path = strangers.folder / change.file

    with edited(path, *change.broken):
        line = 1 + path.read_text().partition(change.broken[1])[0].count("\n")
        with KeepAlive(gateway, change.path).asking() as client:
            failed = strangers.devstack("restart", change.service, code=1)
            answered = json.dumps(ask(gateway, change.path)[1])
        service = strangers.service(change.service)
        why = strangers.devstack("why", change.service).out

    place = f"{path.name}:{line}"
    assert place in failed.err, failed.text
    assert change.old in answered
    assert client.failures == []
    assert [r["pid"] for r in service["replicas"] if r["ready"]] == before
    assert service["state"] == "ready"
    assert any(place in warning for warning in service["warnings"]), service
    assert place in why

    strangers.devstack("restart", change.service)
    healed = strangers.service(change.service)
    assert set(current(strangers, change.service)).isdisjoint(before)
    assert not any("newest source" in warning for warning in healed["warnings"]), healed


def test_scaling_up_while_the_newest_source_does_not_start_answers_why(
    strangers: StackUnderTest,
) -> None:
    with edited(strangers.folder / PYTHON.file, *PYTHON.broken):
        strangers.devstack("restart", "ledger", code=1)

        failed = strangers.devstack("scale", "ledger=3", code=1)

        assert "newest source does not start" in failed.err, failed.text
        assert "views.py:" in failed.err
        assert strangers.service("ledger")["ready"] >= 1
    strangers.devstack("restart", "ledger")
    assert strangers.service("ledger")["ready"] == 3
    strangers.devstack("scale", "ledger=file")


def test_a_compiled_service_scales_with_its_last_good_build_while_the_newest_does_not_build(
    strangers: StackUnderTest,
) -> None:
    with edited(strangers.folder / GO.file, *GO.broken):
        strangers.devstack("restart", "rates", code=1)

        strangers.devstack("scale", "rates=3")

        assert strangers.service("rates")["ready"] == 3
        assert ask(strangers.gateway, GO.path)[1] == {"rate": 1.25}
    strangers.devstack("restart", "rates")
    strangers.devstack("scale", "rates=file")


@pytest.mark.parametrize("change", [GO, PYTHON], ids=lambda change: change.service)
def test_after_restarts_only_what_the_running_revision_needs_is_left_on_disk(
    strangers: StackUnderTest, change: Change
) -> None:
    state = strangers.folder / ".devstack"
    build = {"rates": "go-*/rates", "ledger": "pycache-ledger-*"}[change.service]

    with edited(strangers.folder / change.file, *change.good):
        strangers.devstack("restart", change.service)
        assert change.new in json.dumps(ask(strangers.gateway, change.path)[1])
    strangers.devstack("restart", change.service)

    def kept() -> tuple[int, int]:
        records = (state / "state" / "artifacts").glob(f"{change.service}-*.json")
        return len(list(records)), len(list((state / "build").glob(build)))

    eventually(lambda: kept() == (1, 1), f"one revision is kept, not {kept()}")
    eventually(lambda: not [*(state / "build").glob(".making-*")], "nothing half removed is left")
    # what is kept is what new replicas start from
    strangers.devstack("scale", f"{change.service}=4")
    assert change.old in json.dumps(ask(strangers.gateway, change.path)[1])
    strangers.devstack("scale", f"{change.service}=file")


def test_restarting_a_database_recreates_it_and_keeps_its_data(strangers: StackUnderTest) -> None:
    assert ask(strangers.gateway, "/ledger/entries", account="kept", cents=7)[0] == 201
    before = strangers.pids("ledger-db")

    strangers.devstack("restart", "ledger-db")

    (replica,) = strangers.service("ledger-db")["replicas"]
    assert [replica["pid"]] != before
    assert ask(strangers.gateway, "/ledger/balance/kept")[1]["cents"] == 7


def test_a_restart_of_several_services_at_once_replaces_them_all(
    strangers: StackUnderTest,
) -> None:
    names = ("rates", "ledger", "greeter", "ticker")
    before = {name: current(strangers, name) for name in names}

    strangers.devstack("restart", *names)

    after = {name: current(strangers, name) for name in names}
    assert all(set(before[name]).isdisjoint(after[name]) for name in names)
    assert ask(strangers.gateway, "/greet/opening?in=USD")[0] == 200
