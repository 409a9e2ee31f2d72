"""An NGINX without shared dictionaries: the table is part of the configuration."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from devstack.core.routes import Route, RoutingTable
from devstack.gateway.load import wait_gone
from devstack.gateway.workers import workers_of
from tests.gateway.parts import Client, Replica, ask, replicas
from tests.gateway.running import Nginx, Shop, running, table


def test_what_it_can_do_is_found_by_trying(plain_nginx: Nginx) -> None:
    features = plain_nginx.features

    assert not features.shared_table
    assert not features.table_state
    assert features.version >= (1, 18)


def test_f10_it_waits_serves_strips_and_traces_as_well(plain_nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop(routes=(Route("/orders", "orders"), Route("/old", "orders", strip=True)))
        orders = Replica("orders.1", shop.ports[0])
        starting = RoutingTable({}, {"orders": 'orders is starting; "soon" {$x}'})
        async with replicas(orders), running(plain_nginx, tmp_path, starting, shop=shop) as gateway:
            assert await gateway.get("/orders") == (503, "orders is starting soon x")
            page = await ask(
                shop.public.address,
                8080,
                "/orders",
                host="localhost",
                method="POST",
                headers={"accept": "text/html"},
            )
            assert (page.status, page.headers["retry-after"]) == (503, "1")
            assert page.headers["content-type"] == "text/html"
            assert 'http-equiv="refresh"' in page.text

            await gateway.replace(table(orders=[orders]))

            assert await gateway.get("/orders/7?x") == (200, "orders.1\n")
            assert await gateway.get("/old/a%20b?x") == (200, "orders.1\n")
            assert await gateway.get("/old") == (200, "orders.1\n")
            assert (await gateway.get("/ordersXYZ"))[0] == 404
            assert (await gateway.get("/orders", "evil.example"))[0] == 421
            assert [each.target for each in orders.seen] == ["/orders/7?x", "/a%20b?x", "/"]
            assert len({each.headers["traceparent"] for each in orders.seen}) == 3
            assert (await ask(shop.orders.address, 8080)).text == "orders.1\n"

    asyncio.run(scenario())


def test_f03_a_replacement_is_a_reload_that_waits_for_requests_under_way(
    plain_nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        answers: Counter[tuple[int, str]] = Counter()
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                got = await ask(shop.orders.address, 8080, method="POST", body=b"x")
                answers[got.status, got.text] += 1

        old = Replica("orders.0", shop.ports[0], delay_seconds=0.05)
        await old.start()
        async with running(plain_nginx, tmp_path, table(orders=[old]), shop=shop) as gateway:
            tasks = [asyncio.create_task(load()) for _ in range(4)]
            for swap in range(1, 5):
                fresh = Replica(f"orders.{swap}", shop.ports[swap % 2], delay_seconds=0.05)
                await fresh.start()
                await gateway.replace(table(orders=[fresh]))
                await old.stop()
                old = fresh
            done.set()
            await asyncio.gather(*tasks)
            await old.stop()
        assert {status for status, _ in answers} == {200}

    asyncio.run(scenario())


def test_the_wait_for_a_websocket_ends_with_the_grace(plain_nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders, fresh = Replica("orders.1", shop.ports[0]), Replica("orders.2", shop.ports[2])
        async with (
            replicas(orders, fresh),
            running(plain_nginx, tmp_path, table(orders=[orders]), shop=shop) as gateway,
            Client(shop.orders.address, 8080) as client,
        ):
            gateway.live._grace_seconds = 0.3
            assert await client.upgrade() == 101
            await gateway.replace(table(orders=[fresh]))
            assert (await ask(shop.orders.address, 8080)).text == "orders.2\n"
            await client.send(b"ping")
            assert await client.receive(4) == b"ping"
            leaving = [each for each in workers_of(gateway.process.pid) if each.is_leaving]
            await client.__aexit__()
            assert await wait_gone(leaving, 10)

    asyncio.run(scenario())


def test_tcp_services_are_balanced_where_it_has_the_stream_module(
    plain_nginx: Nginx, tmp_path: Path
) -> None:
    if not plain_nginx.features.tcp:
        pytest.skip("this NGINX has no stream module")

    async def scenario() -> None:
        shop = Shop()
        lines = Replica("lines.1", shop.ports[5])
        async with (
            replicas(lines),
            running(plain_nginx, tmp_path, table(lines=[lines]), shop=shop, tcp=True),
        ):
            assert (await ask(shop.lines.address, 7000)).text == "lines.1\n"

    asyncio.run(scenario())
