"""The sample shop sells, through the gateway alone, also after each of its parts was killed once."""

import json
import os
import signal
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
READY_AGAIN_SECONDS = 40


def health(shop: StackUnderTest, name: str) -> dict[str, Any]:
    """What a service says of itself, asked without the gateway."""
    [url] = [
        e["url"]
        for e in json.loads(shop.devstack("endpoints", "--json").out)["endpoints"]
        if e["service"] == name
    ]
    found: dict[str, Any] = httpx.get(f"{url}/healthz", timeout=10, trust_env=False).json()
    return found


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
        eventually(lambda: health(shop, "orders")["broker"] != "connected", 10)
        eventually(lambda: health(shop, "payments")["broker"] != "connected", 10)
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

    assert shop.gateway == base
    sell_a_book(base)
    # what was under way when the part died is neither lost nor doubled
    assert wait_status(base, token, under_way)["status"] == "paid"
    assert wait_payment(base, token, under_way)["status"] == "captured"
    assert [order["id"] for order in get(base, "/orders", token).json()] == [under_way]
