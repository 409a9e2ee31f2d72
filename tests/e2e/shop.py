"""What a customer of the sample shop does, over HTTP alone: register, log in, buy, look."""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

BOOK = 1250
TOO_MUCH = 100_001
"""The cheapest amount that is declined."""

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Sale:
    """One order that came to its end, and who placed it."""

    token: str
    order: dict[str, Any]
    payment: dict[str, Any]


def register_login(base: str, *, email: str | None = None, password: str = "correct horse") -> str:
    """Register somebody new (unless told who) and log in; the token."""
    body = {"email": email or f"{uuid.uuid4().hex}@example.com", "password": password}
    registered = _post(f"{base}/auth/register", body)
    assert registered.status_code == 201, registered.text
    answer = _post(f"{base}/auth/login", body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


def buy(
    base: str,
    token: str,
    item: str = "book",
    amount: int = BOOK,
    *,
    traceparent: str | None = None,
) -> dict[str, Any]:
    """Place an order; as it was answered, which is pending."""
    headers = _bearer(token) | ({"traceparent": traceparent} if traceparent else {})
    answer = _post(f"{base}/orders", {"item": item, "amount": amount}, headers)
    assert answer.status_code == 201, answer.text
    order: dict[str, Any] = answer.json()
    assert order["status"] == "pending", order
    return order


def get(base: str, path: str, token: str) -> httpx.Response:
    return httpx.get(f"{base}{path}", headers=_bearer(token), timeout=10, trust_env=False)


def post(base: str, path: str, body: dict[str, Any], token: str = "") -> httpx.Response:
    """The answer, whatever it is; the body in ASCII, which can hold what UTF-8 cannot."""
    headers = {"Content-Type": "application/json"} | (_bearer(token) if token else {})
    content = json.dumps(body).encode()
    return httpx.post(
        f"{base}{path}", content=content, headers=headers, timeout=10, trust_env=False
    )


def wait_status(base: str, token: str, order_id: str, *, seconds: float = 40.0) -> dict[str, Any]:
    """The order once it is paid or declined. Answers while parts are away count as not yet."""
    return _wait(
        base,
        token,
        f"/orders/{order_id}",
        lambda order: order["status"] != "pending",
        seconds,
    )


def wait_payment(base: str, token: str, order_id: str, *, seconds: float = 40.0) -> dict[str, Any]:
    """The payment of an order, once there is one."""
    return _wait(base, token, f"/payments/{order_id}", lambda _: True, seconds)


def sell_a_book(base: str, *, amount: int = BOOK, seconds: float = 40.0) -> Sale:
    """The whole purchase: register, login, order, paid or declined, payment; nobody else sees it."""
    token = register_login(base)
    order_id = buy(base, token, "book", amount)["id"]
    order = wait_status(base, token, order_id, seconds=seconds)
    payment = wait_payment(base, token, order_id, seconds=seconds)
    declined = amount >= TOO_MUCH
    assert order["status"] == ("declined" if declined else "paid"), order
    assert payment["status"] == ("declined" if declined else "captured"), payment
    assert payment["amount"] == amount, payment

    stranger = register_login(base)
    assert get(base, f"/orders/{order_id}", stranger).status_code == 404
    assert get(base, f"/payments/{order_id}", stranger).status_code == 404
    assert get(base, "/orders", stranger).json() == []
    assert [o["id"] for o in get(base, "/orders", token).json()] == [order_id]
    return Sale(token, order, payment)


def _post(url: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
    # trust_env: a proxy that the environment names is not for this machine's own addresses.
    return httpx.post(url, json=body, headers=headers, timeout=10, trust_env=False)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _wait(
    base: str, token: str, path: str, done: Callable[[dict[str, Any]], bool], seconds: float
) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    last = "no answer"
    while time.monotonic() < deadline:
        try:
            answer = get(base, path, token)
        except httpx.TransportError as exc:
            last = repr(exc)
        else:
            last = f"{answer.status_code} {answer.text}"
            if answer.status_code == 200 and done(answer.json()):
                found: dict[str, Any] = answer.json()
                return found
        time.sleep(_POLL_SECONDS)
    raise AssertionError(f"{path} did not come to its end within {seconds} s: {last}")
