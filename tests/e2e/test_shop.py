"""The sample shop sells, through the gateway alone, also after each of its parts was killed once."""

import json
import os
import signal
import uuid
from typing import Any

import httpx
import pytest

from tests.e2e.shop import (
    TOO_MUCH,
    buy,
    get,
    post,
    register_login,
    sell_a_book,
    wait_payment,
    wait_status,
)
from tests.support.processes import eventually, is_alive
from tests.support.stacks import StackUnderTest

PARTS = (
    "auth",
    "orders",
    "payments",
    "auth-db",
    "orders-db",
    "payments-db",
    "nats",
    "gateway",
)
READY_AGAIN_SECONDS = 90  # more than the minute in which what changed often is called flapping


def health(shop: StackUnderTest, name: str) -> dict[str, Any]:
    """What a service says of itself, asked without the gateway."""
    [url] = [
        e["url"]
        for e in json.loads(shop.devstack("endpoints", "--json").out)["endpoints"]
        if e["service"] == name
    ]
    found: dict[str, Any] = httpx.get(f"{url}/healthz", timeout=10, trust_env=False).json()
    return found


def are_well(shop: StackUnderTest) -> bool:
    """Whether each service says so itself: one has found its database again later than that was ready."""
    services = [shop.service(name) for name in ("auth", "orders", "payments")]
    return all(
        httpx.get(f"http://{r['address']}/healthz", timeout=10, trust_env=False).status_code == 200
        for service in services
        for r in service["replicas"]
    )


def test_a_customer_registers_logs_in_orders_and_pays_through_the_gateway(
    shop: StackUnderTest,
) -> None:
    sale = sell_a_book(shop.gateway)
    assert sale.order["status"] == "paid"
    assert sale.payment["status"] == "captured"


def test_an_order_that_is_too_dear_is_declined(shop: StackUnderTest) -> None:
    sale = sell_a_book(shop.gateway, amount=TOO_MUCH)
    assert sale.order["status"] == "declined"
    assert sale.payment["status"] == "declined"


def test_the_status_lists_all_eight_parts_as_ready(shop: StackUnderTest) -> None:
    status = shop.status()
    assert {s["name"] for s in status["services"]} == set(PARTS)
    assert all(s["state"] == "ready" and s["reason"] is None for s in status["services"])
    assert all(len(s["replicas"]) == s["desired"] == s["ready"] == 1 for s in status["services"])


def test_what_cannot_be_meant_is_refused_at_the_door(shop: StackUnderTest) -> None:
    base = shop.gateway
    token = register_login(base)

    for amount in (0, 100_000_000_001, 2**53 + 1):
        refused = post(base, "/orders", {"item": "book", "amount": amount}, token)
        assert refused.status_code == 400, refused.text
        assert "from 1 to 100000000000" in refused.json()["error"]
    for password in ("", "\ud800", "x" * 1025):
        refused = post(base, "/auth/register", {"email": "a@example.com", "password": password})
        assert refused.status_code == 400, refused.text
    large = "x" * (1 << 17)
    assert post(base, "/orders", {"item": large, "amount": 1}, token).status_code == 413
    assert post(base, "/auth/login", {"email": large, "password": large}).status_code == 413


def test_orders_are_taken_while_the_broker_is_away_and_paid_when_it_is_back(
    shop: StackUnderTest,
) -> None:
    base = shop.gateway
    token = register_login(base)
    shop.devstack("stop", "nats")
    try:
        eventually(lambda: health(shop, "orders")["broker"] != "connected", 30)
        eventually(lambda: health(shop, "payments")["broker"] != "connected", 30)
        assert health(shop, "orders")["status"] == health(shop, "payments")["status"] == "ok"
        under_way = buy(base, token)["id"]
        assert get(base, f"/orders/{under_way}", token).json()["status"] == "pending"
        assert shop.service("orders")["state"] == "ready"
    finally:
        shop.devstack("start", "nats")

    assert wait_status(base, token, under_way)["status"] == "paid"
    assert health(shop, "orders") == {"status": "ok", "broker": "connected"}


@pytest.mark.parametrize("part", PARTS)
def test_the_shop_sells_after_a_part_was_killed(shop: StackUnderTest, part: str) -> None:
    base = shop.gateway
    before = shop.service(part)["replicas"][0]
    token = register_login(base)
    under_way = buy(base, token)["id"]

    os.kill(before["pid"], signal.SIGKILL)

    def is_back() -> bool:
        service = shop.service(part)
        return (
            service["state"] == "ready"
            and service["ready"] == service["desired"]
            and before["id"] not in {replica["id"] for replica in service["replicas"]}
        )

    eventually(is_back, READY_AGAIN_SECONDS)
    eventually(
        lambda: all(s["state"] == "ready" for s in shop.status()["services"]), READY_AGAIN_SECONDS
    )
    assert not is_alive(before["pid"])
    eventually(lambda: are_well(shop), 30)
    shop.up()  # and the gateway knows them

    assert shop.gateway == base
    sell_a_book(base)
    # what was under way when the part died is neither lost nor doubled
    assert wait_status(base, token, under_way)["status"] == "paid"
    assert wait_payment(base, token, under_way)["status"] == "captured"
    assert [order["id"] for order in get(base, "/orders", token).json()] == [under_way]


def test_one_trace_is_followed_through_calls_and_events_and_logged_by_all_three_as_json(
    shop: StackUnderTest,
) -> None:
    trace = uuid.uuid4().hex
    token = register_login(shop.gateway)

    order = buy(shop.gateway, token, traceparent=f"00-{trace}-{'1' * 16}-01")

    assert wait_status(shop.gateway, token, order["id"])["status"] == "paid"
    expected = {
        ("orders", "request POST /orders"),
        ("auth", "request GET /auth/me"),  # asked by orders
        ("orders", "order created"),
        ("orders", "published orders.created"),
        ("payments", "payment captured"),  # known by the event's header alone
        ("payments", "published payments.captured"),
        ("orders", "order paid"),
    }
    eventually(lambda: expected <= said_of(shop, trace), 30)

    def entries() -> set[tuple[str, str]]:
        access = (shop.folder / ".devstack/state/gateway/access.log").read_text()
        lines = map(json.loads, access[: access.rfind("\n") + 1].splitlines())
        return {(line["entry"], line["service"]) for line in lines if line["trace"] == trace}

    eventually(lambda: entries() >= {("gateway", "orders"), ("service", "auth")}, 30)
    assert entries() == {("gateway", "orders"), ("service", "auth")}

    asked = uuid.uuid4().hex
    headers = {"Authorization": f"Bearer {token}", "traceparent": f"00-{asked}-{'2' * 16}-01"}
    url = f"{shop.gateway}/payments/{order['id']}"
    assert httpx.get(url, headers=headers, timeout=10, trust_env=False).status_code == 200
    eventually(lambda: ("auth", "request GET /auth/me") in said_of(shop, asked), 30)


def said_of(stack: StackUnderTest, trace: str) -> set[tuple[str, str]]:
    """What services wrote about a trace, each line an object of its own: who, and what of it matters."""
    lines = map(json.loads, stack.devstack("logs", "--json", "--grep", trace).out.splitlines())
    seen = set()
    for line in lines:
        told = json.loads(line["text"])
        assert told["trace_id"] == trace
        assert told["service"] == line["service"]
        words = [told["msg"], *(told[key] for key in ("method", "path", "subject") if key in told)]
        seen.add((line["service"], " ".join(words)))
    return seen


@pytest.mark.parametrize("name", ["auth", "orders", "payments"])
def test_a_service_whose_database_is_away_says_so_is_not_ready_and_heals(
    shop: StackUnderTest, name: str
) -> None:
    before = shop.service(name)["replicas"][0]

    shop.devstack("stop", f"{name}-db")

    health = httpx.get(f"http://{before['address']}/healthz", timeout=10, trust_env=False)
    assert health.status_code == 503, health.text
    assert health.json()["reason"]
    eventually(lambda: not shop.service(name)["ready"], 40)
    assert shop.service(name)["state"] != "ready"
    assert "503" in shop.devstack("why", name).out
    url = f"{shop.gateway}/{name}"
    eventually(lambda: httpx.get(url, timeout=10, trust_env=False).status_code == 503, 40)

    shop.devstack("start", f"{name}-db")
    eventually(lambda: shop.service(name)["ready"], 40)
    # the same process: that it waited is no reason to end it
    assert shop.pids(name) == [before["pid"]]
    shop.devstack("up", "-d", "--wait")  # returns when the routes to it are in force
    sell_a_book(shop.gateway)
