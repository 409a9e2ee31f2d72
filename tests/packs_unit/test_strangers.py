"""The three strangers' layouts, prepared for real and asked over HTTP without names or a gateway."""

import time
from pathlib import Path

import pytest

from devstack.config.load import load
from devstack.packs.base import Prepared
from devstack.packs.detect import all_packs, detect
from tests.packs_unit.bench import Bench, Run, TakeSnapshot
from tests.packs_unit.serving import started


def prepare(
    bench: Bench, run: Run, source: Path, service: str, main: str | None = None
) -> Prepared:
    found = detect(source, all_packs(bench.tools), main=main)
    request = bench.request(source, service=service, main=main)
    return run(found.pack.prepare(request, bench.steps))


def test_the_strangers_are_detected(strangers: Path, bench: Bench) -> None:
    packs = all_packs(bench.tools)

    assert {
        name: detect(strangers / name, packs).pack.name
        for name in ("ledger", "exchange", "greeter")
    } == {
        "ledger": "python",
        "exchange": "go",
        "greeter": "node",
    }


@pytest.mark.timeout(300)
def test_a_module_with_two_programs_serves_and_works_without_a_port(
    strangers: Path, bench: Bench, run: Run, snapshot: TakeSnapshot
) -> None:
    source = strangers / "exchange"
    before = snapshot(source)
    api = prepare(bench, run, source, "rates", "./cmd/api")
    worker = prepare(bench, run, source, "ticker", "./cmd/worker")
    base = bench.steps.environment

    with started(api, bench.folder, base) as rates:
        assert rates.ask("/rates/USD") == (200, {"rate": 1.25})
        assert rates.ask("/rates/XAU")[0] == 404
        with started(worker, bench.folder, base, {"TICK_URL": rates.url}) as ticker:
            deadline = time.monotonic() + 20
            while rates.ask("/ticks")[1]["ticks"] < 2:
                assert time.monotonic() < deadline, ticker.output()
            assert ticker.stop() == 0
        assert rates.stop() == 0
    assert snapshot(source) == before


@pytest.mark.timeout(300)
def test_a_factory_in_a_package_is_served_and_stops_gracefully(
    strangers: Path, bench: Bench, run: Run, snapshot: TakeSnapshot
) -> None:
    source = strangers / "ledger"
    before = snapshot(source)
    ledger = prepare(bench, run, source, "ledger")
    api = prepare(bench, run, strangers / "exchange", "rates", "./cmd/api")
    base = bench.steps.environment

    with (
        started(api, bench.folder, base) as rates,
        started(ledger, bench.folder, base, {"RATES_URL": rates.url}) as serving,
    ):
        assert serving.ask("/about") == (200, {"service": "ledger", "python": True})
        assert serving.ask("/convert?cents=200&to=USD") == (200, {"currency": "USD", "cents": 250})
        assert serving.stop() == 0
    assert snapshot(source) == before
    assert any("serves ledger:create_app()" in note for note in ledger.notes)


@pytest.mark.timeout(300)
def test_es_modules_with_a_lock_file_run_from_an_untouched_tree(
    strangers: Path, bench: Bench, run: Run, snapshot: TakeSnapshot
) -> None:
    source = strangers / "greeter"
    before = snapshot(source)
    greeter = prepare(bench, run, source, "greeter")
    base = bench.steps.environment

    with started(
        greeter, bench.folder, base, {"LEDGER_ADDRESS": "http://127.0.0.1:9"}, wanted="GREETER_PORT"
    ) as serving:
        assert serving.ask("/healthz") == (200, {"ok": True})
        assert serving.stop() == 0
    assert snapshot(source) == before
    assert not (source / "node_modules").exists()


def test_the_stack_file_of_the_strangers_is_valid(strangers: Path) -> None:
    stack = load(strangers / "stack.yaml", {}).stack

    assert {"ledger", "rates", "ticker", "greeter", "ledger-db"} <= set(stack.services)


def test_nothing_of_the_strangers_is_named_in_the_packs(strangers: Path) -> None:
    packs = Path(__file__).parents[2] / "devstack" / "packs"
    names = ("ledger", "greeter", "exchange", "ticker", "orders", "payments")
    texts = {file: file.read_text() for file in packs.rglob("*") if file.suffix in {".py", ".mjs"}}

    assert texts
    for file, text in texts.items():
        assert not [name for name in names if name in text.lower()], file
