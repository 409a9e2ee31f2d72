"""What callers meet: routes, names, headers, pages."""

import asyncio
import json
import re
import time
from pathlib import Path

import pytest

from devstack.core.routes import Route, RoutingTable
from devstack.gateway.drain import wait_drained
from tests.gateway.parts import (
    Answer,
    Client,
    Manners,
    Replica,
    ask,
    eventually,
    free_port,
    replicas,
)
from tests.gateway.running import Nginx, RunningGateway, Shop, running, table
from tests.support.processes import eventually_async


async def logged(gateway: RunningGateway, count: int) -> dict[str, dict[str, str]]:
    """The first `count` requests of the access log, by path; a worker writes after it answered."""
    place = gateway.live.settings.access_log

    def lines() -> list[bytes]:
        return place.read_bytes().splitlines(keepends=True) if place.exists() else []

    await eventually(lambda: len(lines()) >= count and lines()[-1].endswith(b"\n"))
    return {each["path"]: each for each in map(json.loads, lines())}


def test_a_service_is_reached_by_its_address_its_route_and_its_name(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders, users = Replica("orders.1", shop.ports[0]), Replica("users.1", shop.ports[4])
        async with (
            replicas(orders, users),
            running(nginx, tmp_path, table(orders=[orders], users=[users]), shop=shop) as gateway,
        ):
            direct = await ask(shop.users.address, shop.users.port, "/x?y=1", host="users:8080")

            assert (direct.status, direct.text) == (200, "users.1\n")
            assert await gateway.get("/orders/7?q=%2F") == (200, "orders.1\n")
            assert await gateway.get("/x", "users.shop.localhost:8080") == (200, "users.1\n")
            assert [each.target for each in orders.seen] == ["/orders/7?q=%2F"]
            assert users.seen[0].headers["host"] == "users:8080"
            assert "x-forwarded-for" not in users.seen[0].headers
            assert orders.seen[0].headers["x-forwarded-proto"] == "http"

    asyncio.run(scenario())


def test_a_route_takes_its_path_and_everything_under_it_and_nothing_else(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop(
            routes=(
                Route("/orders", "orders"),
                Route("/orders/special", "users"),
                Route("/trailing/", "orders"),
            )
        )
        orders, users = Replica("orders.1", shop.ports[0]), Replica("users.1", shop.ports[4])
        async with (
            replicas(orders, users),
            running(nginx, tmp_path, table(orders=[orders], users=[users]), shop=shop) as gateway,
        ):
            for taken in ("/orders", "/orders/", "/orders?x", "/orders/7/a", "/trailing"):
                assert (taken, await gateway.get(taken)) == (taken, (200, "orders.1\n"))
            for taken in ("/orders/special", "/orders/special/7"):
                assert (taken, await gateway.get(taken)) == (taken, (200, "users.1\n"))
            for other in ("/ordersXYZ", "/order", "/", "/orders.json"):
                assert (other, (await gateway.get(other))[0]) == (other, 404)
            assert (await gateway.get("/orders/specials"))[1] == "orders.1\n"
            posted = await ask(
                shop.public.address, 8080, "/orders", method="POST", host="localhost", body=b"book"
            )
            assert posted.status == 200
            assert orders.seen[-1].body == b"book"

    asyncio.run(scenario())


def test_a_stripped_prefix_leaves_the_rest_of_the_path_as_it_came(
    nginx: Nginx, tmp_path: Path
) -> None:
    passed_on = {
        "/old": "/",
        "/old/": "/",
        "/old?x=1": "/?x=1",
        "/old/a%2Fb%20c?q=%20/old/": "/a%2Fb%20c?q=%20/old/",
        "/old//x": "//x",
        "/%6fld/x%20y?z=1": "/x%20y?z=1",
        "/%6fld/a%0d%0ab%3Fc%23d": "/a%0D%0Ab%3Fc%23d",
        "//old/x": "/x",
    }

    async def scenario() -> None:
        shop = Shop(routes=(Route("/old", "orders", strip=True), Route("/new", "orders")))
        orders = Replica("orders.1", shop.ports[0])
        async with (
            replicas(orders),
            running(nginx, tmp_path, table(orders=[orders]), shop=shop) as gateway,
        ):
            for asked in passed_on:
                assert (await gateway.get(asked))[0] == 200
            assert await gateway.get("/new/x", X_Forwarded_Prefix="/forged") == (200, "orders.1\n")

            assert [each.target for each in orders.seen[:-1]] == list(passed_on.values())
            assert {each.headers["x-forwarded-prefix"] for each in orders.seen[:-1]} == {"/old"}
            assert "x-forwarded-prefix" not in orders.seen[-1].headers

    asyncio.run(scenario())


def test_f08_a_replica_is_entered_by_its_literal_address_ipv6_or_without_a_block(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop(routes=(Route("/orders", "orders"), Route("/old", "orders", strip=True)))
        kinds = [
            Replica("without-a-block", free_port()),
            Replica("ipv6", shop.ports[1], "::1"),
        ]
        async with (
            replicas(*kinds),
            running(nginx, tmp_path, shop=shop) as gateway,
        ):
            for replica in kinds:
                await gateway.replace(table(orders=[replica]))

                assert await gateway.get("/orders/x") == (200, f"{replica.name}\n")
                assert await gateway.get("/old/y?z") == (200, f"{replica.name}\n")
                assert [each.target for each in replica.seen] == ["/orders/x", "/y?z"]

    asyncio.run(scenario())


def test_an_unknown_host_name_is_answered_421(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        async with (
            replicas(orders),
            running(nginx, tmp_path, table(orders=[orders]), shop=shop) as gateway,
        ):
            own = shop.public.address
            for known in (
                "localhost",
                "LOCALHOST:8080",
                "127.0.0.1",
                "[::1]",
                own,
                "shop.localhost",
                "gateway",
            ):
                assert (known, (await gateway.get("/orders", known))[0]) == (known, 200)
            for unknown in (
                "evil.example",
                "localhost.evil.example",
                "nobody.shop.localhost",
                "10.0.0.1",
            ):
                assert (unknown, (await gateway.get("/orders", unknown))[0]) == (unknown, 421)
            service = shop.orders
            for known in (
                "orders",
                "orders:8080",
                service.address,
                "orders.localhost",
                "host.docker.internal",
                "-",
            ):
                got = (
                    await ask(service.address, service.port, host=known)
                    if known != "-"
                    else await _ask_as_http_1_0(shop)
                )
                assert (known, got.status) == (known, 200)
            for unknown in ("evil.example", "orders.evil.example"):
                got = await ask(service.address, service.port, host=unknown)
                assert (unknown, got.status) == (unknown, 421)
            assert len(orders.seen) == 13

    async def _ask_as_http_1_0(shop: Shop) -> Answer:
        async with Client(shop.orders.address, shop.orders.port) as client:
            await client.send(b"GET / HTTP/1.0\r\n\r\n")
            return await client.answer()

    asyncio.run(scenario())


def test_f10_before_a_service_is_ready_a_page_says_what_is_waited_for(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        starting = RoutingTable(
            {}, {"orders": "orders is starting & <waits>"}, {"orders": time.time() - 12.5}
        )
        async with replicas(orders), running(nginx, tmp_path, starting, shop=shop) as gateway:
            public = shop.public
            text = await ask(public.address, public.port, "/orders", host="localhost")
            assert text.status == 503
            assert text.headers["retry-after"] == "1"
            assert text.headers["content-type"] == "text/plain; charset=utf-8"
            waited = re.fullmatch(r"orders is starting & <waits> \((\d+) s\)\n", text.text)
            assert waited is not None
            assert 12 <= int(waited[1]) < 60

            browser = await ask(
                public.address,
                public.port,
                "/orders",
                host="localhost",
                headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"},
            )
            assert (browser.status, browser.headers["retry-after"]) == (503, "1")
            assert browser.headers["content-type"].startswith("text/html")
            assert "orders is starting &amp; &lt;waits&gt; (" in browser.text
            assert '<meta http-equiv="refresh"' in browser.text

            program = await ask(
                public.address,
                public.port,
                "/orders",
                host="localhost",
                method="POST",
                body=b"{}",
                headers={"accept": "application/json"},
            )
            assert json.loads(program.body)["service"] == "orders"
            assert json.loads(program.body)["error"].startswith("orders is starting")
            assert (await gateway.get("/users"))[1] == "users has no replica that is ready\n"

            await gateway.replace(table(orders=[orders]))

            assert await gateway.get("/orders") == (200, "orders.1\n")

    asyncio.run(scenario())


def test_f02_replicas_that_died_are_no_longer_asked_and_fresh_ones_are_at_once(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        both = [Replica("orders.1", shop.ports[0]), Replica("orders.2", shop.ports[2])]
        async with (
            replicas(*both),
            running(nginx, tmp_path, table(orders=both), shop=shop) as gateway,
        ):
            assert (await gateway.get("/orders"))[0] == 200
            for each in both:
                await each.stop()
                assert await wait_drained(each.port, 10)
            # The table does not know yet: 503, never 502, for requests that reached nobody.
            refused = await ask(
                shop.public.address, 8080, "/orders", method="POST", host="localhost", body=b"x"
            )
            assert (refused.status, refused.text) == (503, "orders accepts no connection\n")
            assert refused.headers["retry-after"] == "1"
            await gateway.replace(RoutingTable({}, {"orders": "orders is starting"}))
            assert await gateway.get("/orders") == (503, "orders is starting\n")

            await both[1].start()
            await gateway.replace(table(orders=[both[1]]))

            for _ in range(50):
                assert await gateway.get("/orders") == (200, "orders.2\n")

    asyncio.run(scenario())


def test_large_and_odd_headers_and_bodies_pass(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop()
        answer_headers = f"X-Big: {'o' * 64_000}\r\nLocation: http://orders:8080/next\r\nX-Accel-Redirect: /users\r\n"
        orders = Replica("orders.1", shop.ports[0], headers=answer_headers)
        async with (
            replicas(orders),
            running(nginx, tmp_path, table(orders=[orders]), shop=shop),
        ):
            got = await ask(
                shop.orders.address,
                8080,
                "/" + "p" * 60_000,
                host="orders",
                method="PUT",
                body=b"b" * 3_000_000,
                headers={"x-big": "i" * 128_000, "with_underscore": "1", "x.odd": "2"},
            )

            assert (got.status, got.text) == (200, "orders.1\n")
            assert len(got.headers["x-big"]) == 64_000
            assert got.headers["location"] == "http://orders:8080/next"
            assert got.headers["server"] == "replica"
            seen = orders.seen[0]
            assert len(seen.body) == 3_000_000
            assert len(seen.headers["x-big"]) == 128_000
            assert (seen.headers["with_underscore"], seen.headers["x.odd"]) == ("1", "2")

    asyncio.run(scenario())


def test_every_request_carries_a_traceparent_and_is_logged(nginx: Nginx, tmp_path: Path) -> None:
    valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1#7", shop.ports[0])
        async with (
            replicas(orders),
            running(nginx, tmp_path, table(orders=[orders]), shop=shop) as gateway,
        ):
            await gateway.get("/orders/0?secret=x", traceparent=valid)
            for number, invalid in enumerate(
                ("", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff" + valid[2:]), 1
            ):
                await gateway.get(f"/orders/{number}", traceparent=invalid)
            await ask(shop.orders.address, 8080, "/direct")
            await gateway.get("/users")
            await gateway.get('/no"where\\')

            sent = {each.target: each.headers["traceparent"] for each in orders.seen}
            assert sent["/orders/0?secret=x"] == valid
            assert len(set(sent.values())) == 6
            for each in sent.values():
                assert re.fullmatch(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01", each)
            records = await logged(gateway, 8)
            for target, traceparent in sent.items():
                record = records[target.partition("?")[0]]
                assert record["trace"] == traceparent.split("-")[1]
                assert (record["service"], record["replica"]) == ("orders", "orders.1#7")
            first = records["/orders/0"]
            assert (first["method"], first["status"], first["entry"]) == ("GET", "200", "gateway")
            assert abs(float(first["time"]) - time.time()) < 60
            assert records["/direct"]["entry"] == "service"
            users = records["/users"]
            assert (users["status"], users["service"], users["replica"]) == ("503", "users", "")
            assert records['/no"where\\']["status"] == "404"

    asyncio.run(scenario())


def test_the_log_names_the_replica_that_answered_in_the_end(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop()
        dead, alive = Replica("orders.1", shop.ports[0]), Replica("orders.2", shop.ports[2])
        async with (
            replicas(alive),
            running(nginx, tmp_path, table(orders=[dead, alive]), shop=shop) as gateway,
        ):
            for number in range(4):
                got = await ask(shop.orders.address, 8080, f"/{number}")
                assert got.text == "orders.2\n"
                assert not [name for name in got.headers if "devstack" in name]

            assert {each["replica"] for each in (await logged(gateway, 4)).values()} == {"orders.2"}

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_body_is_buffered_unless_the_route_streams(
    nginx: Nginx, tmp_path: Path, *, stream: bool
) -> None:
    async def scenario() -> None:
        shop = Shop(routes=(Route("/up", "orders", stream=stream),))
        orders = Replica("orders.1", shop.ports[0])
        async with replicas(orders), running(nginx, tmp_path, table(orders=[orders]), shop=shop):
            async with Client(shop.public.address, 8080, "localhost") as client:
                await client.send_head("/up", "POST", {"content-length": "8"})
                await client.send(b"half")
                if stream:
                    await eventually(orders.first_bytes.is_set)
                else:
                    await ask(shop.orders.address, 8080, "/marker")
                    assert [each.target for each in orders.seen] == ["/marker"]
                await client.send(b"half")
                assert (await client.answer()).status == 200
            assert orders.seen[-1].body == b"halfhalf"

    asyncio.run(scenario())


def test_the_time_out_of_a_route_holds_and_is_not_doubled_by_a_retry(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop(
            routes=(Route("/short", "orders", timeout_seconds=0.3), Route("/long", "orders"))
        )
        both = [
            Replica("orders.1", shop.ports[0], delay_seconds=60),
            Replica("orders.2", shop.ports[2], delay_seconds=60),
        ]
        async with (
            replicas(*both),
            running(nginx, tmp_path, table(orders=both), shop=shop) as gateway,
        ):
            assert await gateway.get("/short") == (504, "orders did not answer in time\n")
            # the replica runs on this loop too, and may hear of it after the time-out
            await eventually_async(lambda: any(each.seen for each in both))
            assert sum(len(each.seen) for each in both) == 1
            for each in both:
                each.delay_seconds = 1.0
            assert (await gateway.get("/long"))[0] == 200

    asyncio.run(scenario())


def test_a_websocket_passes_and_a_tcp_service_is_balanced(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        lines = [Replica("lines.1", shop.ports[5]), Replica("lines.2", shop.ports[7])]
        now = table(orders=[orders], lines=lines)
        async with (
            replicas(orders, *lines),
            running(nginx, tmp_path, now, shop=shop, tcp=True) as gateway,
        ):
            async with Client(shop.public.address, 8080, "localhost") as client:
                assert await client.upgrade("/orders/ws") == 101
                await client.send(b"hello")
                assert await client.receive(5) == b"hello"
            answers = [(await ask(shop.lines.address, 7000)).text for _ in range(4)]
            assert sorted(answers) == ["lines.1\n"] * 2 + ["lines.2\n"] * 2

            await lines[0].stop()
            answers = [(await ask(shop.lines.address, 7000)).text for _ in range(4)]
            assert set(answers) == {"lines.2\n"}

            await gateway.replace(table(orders=[orders]))
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await ask(shop.lines.address, 7000)

    asyncio.run(scenario())


def test_a_service_that_ends_the_connection_is_told_from_one_that_refuses(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0], manners=Manners.RESETS_AFTER_REQUEST)
        async with (
            replicas(orders),
            running(nginx, tmp_path, table(orders=[orders]), shop=shop),
        ):
            got = await ask(shop.orders.address, 8080, method="POST", body=b"x")

            assert got.status == 502
            assert got.text == "orders ended the connection without an answer\n"
            assert len(orders.seen) == 1

    asyncio.run(scenario())


def test_any_folder_will_do_and_logs_can_be_rotated(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / ('it\'s a {long}; $path # "ü" ' + "x" * 100)
        folder.mkdir()
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        async with (
            replicas(orders),
            running(nginx, folder, table(orders=[orders]), shop=shop) as gateway,
        ):
            assert (await gateway.get("/orders/1"))[0] == 200
            assert list(await logged(gateway, 1)) == ["/orders/1"]
            assert not await gateway.live.rotate_logs(gateway.master, 1 << 20)
            assert await gateway.live.rotate_logs(gateway.master, 10)
            await eventually(gateway.live.settings.access_log.exists)
            # A worker goes on with the old file until it has seen the signal.
            async with asyncio.timeout(30):
                while gateway.live.settings.access_log.stat().st_size == 0:
                    assert (await gateway.get("/orders/2"))[0] == 200

    asyncio.run(scenario())
