"""Replacing the routing table while requests are under way."""

import asyncio
import json
import os
import signal
import socket
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from devstack.core.routes import GatewayConfig, RoutingTable, Target
from devstack.gateway import table as table_module
from devstack.gateway.directive import UnsafeValue
from devstack.gateway.drain import count_connections, wait_drained
from devstack.gateway.files import put_file
from devstack.gateway.load import wait_gone
from devstack.gateway.table import TableUnreachable, read_table, replace_table
from devstack.gateway.wire import TableTooLarge, WireTable, to_wire
from devstack.gateway.workers import workers_of
from tests.gateway.parts import Answer, Client, Manners, Replica, ask, eventually, replicas
from tests.gateway.running import Nginx, Shop, running, table


def test_f03_kept_idle_connections_get_the_new_replica_and_none_fails(
    nginx: Nginx, tmp_path: Path
) -> None:
    """Twenty clients, each with one kept connection, through eight replacements with drain and stop."""

    async def scenario() -> None:
        shop = Shop()
        current = Replica("orders.0", shop.ports[0])
        await current.start()
        old = current
        async with running(nginx, tmp_path, table(orders=[current]), shop=shop) as gateway:
            clients = [Client(shop.orders.address, 8080) for _ in range(20)]
            for client in clients:
                await client.__aenter__()
            try:
                for swap in range(1, 9):
                    current = Replica(f"orders.{swap}", shop.ports[swap % 2])
                    await current.start()
                    await gateway.replace(table(orders=[current]))
                    assert await wait_drained(old.port, 10)
                    await old.stop()
                    answers = await asyncio.gather(
                        *(client.ask("/", "POST", b"book") for client in clients)
                    )
                    assert {(each.status, each.text) for each in answers} == {
                        (200, f"orders.{swap}\n")
                    }
                    old = current
            finally:
                for client in clients:
                    await client.__aexit__()
                await current.stop()

    asyncio.run(scenario())


def _has_seen(replica: Replica, count: int) -> bool:
    return len(replica.seen) >= count


@pytest.mark.parametrize("keep", [True, False], ids=["keep-alive", "close"])
def test_f03_under_load_no_request_fails_while_replicas_are_replaced(
    nginx: Nginx, tmp_path: Path, *, keep: bool
) -> None:
    async def scenario() -> None:
        shop = Shop()
        answers: Counter[int] = Counter()
        done = asyncio.Event()

        async def load(number: int) -> None:
            method = "POST" if number % 2 else "GET"
            while not done.is_set():
                async with Client(shop.orders.address, 8080) as client:
                    for _ in range(50 if keep else 1):
                        answers[(await client.ask("/", method, b"x" * 100)).status] += 1
                        if done.is_set():
                            break

        old = Replica("orders.0", shop.ports[0], delay_seconds=0.01)
        await old.start()
        async with running(nginx, tmp_path, table(orders=[old]), shop=shop) as gateway:
            tasks = [asyncio.create_task(load(number)) for number in range(8)]
            for swap in range(1, 7):
                fresh = Replica(f"orders.{swap}", shop.ports[swap % 2], delay_seconds=0.01)
                await fresh.start()
                await gateway.replace(table(orders=[old, fresh]))
                await gateway.replace(table(orders=[fresh]))
                assert await wait_drained(old.port, 10)
                await old.stop()
                seen = len(fresh.seen)
                await eventually(partial(_has_seen, fresh, seen + 20))
                old = fresh
            done.set()
            await asyncio.gather(*tasks)
            await old.stop()
        assert set(answers) == {200}
        assert answers.total() > 100

    asyncio.run(scenario())


def test_a_lone_replica_that_closes_kept_connections_costs_no_request(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0], manners=Manners.CLOSES_AFTER_ANSWER)
        async with (
            replicas(orders),
            running(nginx, tmp_path, table(orders=[orders]), shop=shop),
            Client(shop.orders.address, 8080) as client,
        ):
            answers = [await client.ask() for _ in range(200)]

            assert Counter(each.status for each in answers) == {200: 200}

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_with_half_of_the_table_refusing_no_request_fails(
    nginx: Nginx, tmp_path: Path, method: str
) -> None:
    async def scenario() -> None:
        shop = Shop()
        p = shop.ports
        all_four = [
            Replica(f"orders.{n}", port) for n, port in enumerate((p[0], p[2], p[3], p[6]), 1)
        ]
        async with (
            replicas(*all_four[::2]),
            running(nginx, tmp_path, table(orders=all_four), shop=shop),
        ):
            answers = await asyncio.gather(
                *(
                    ask(shop.orders.address, 8080, method=method, body=b"x" * 200_000)
                    for _ in range(80)
                )
            )

            assert Counter(each.status for each in answers) == {200: 80}
            assert sum(len(each.seen) for each in all_four) == 80

    asyncio.run(scenario())


def test_f01_a_post_is_never_sent_twice_and_a_get_goes_to_another_replica(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        bad = Replica("orders.1", shop.ports[0], manners=Manners.RESETS_AFTER_REQUEST)
        good = Replica("orders.2", shop.ports[2])
        async with (
            replicas(bad, good),
            running(nginx, tmp_path, table(orders=[bad, good]), shop=shop),
        ):
            address = shop.orders.address
            posts = [await ask(address, 8080, f"/{n}", method="POST", body=b"x") for n in range(40)]
            sent = Counter(each.target for each in bad.seen + good.seen)
            assert set(sent.values()) == {1}
            assert Counter(each.status for each in posts) == {200: 20, 502: 20}

            gets = [await ask(address, 8080, f"/get/{n}") for n in range(40)]
            assert Counter(each.status for each in gets) == {200: 40}

    asyncio.run(scenario())


def test_an_idempotent_request_that_ends_connections_reaches_at_most_three_replicas(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        p = shop.ports
        all_four = [
            Replica(f"orders.{n}", port, manners=Manners.RESETS_AFTER_REQUEST)
            for n, port in enumerate((p[0], p[2], p[3], p[6]), 1)
        ]
        async with (
            replicas(*all_four),
            running(nginx, tmp_path, table(orders=all_four), shop=shop),
        ):
            got = await ask(shop.orders.address, 8080)

            assert got.status == 502
            assert sorted(len(each.seen) for each in all_four) == [0, 1, 1, 1]

    asyncio.run(scenario())


def test_f07_a_websocket_outlives_replacements_of_its_own_and_other_entries(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        old, fresh = Replica("orders.1", shop.ports[0]), Replica("orders.2", shop.ports[2])
        users = Replica("users.1", shop.ports[4])
        async with (
            replicas(old, fresh, users),
            running(nginx, tmp_path, table(orders=[old], users=[users]), shop=shop) as gateway,
            Client(shop.orders.address, 8080) as client,
        ):
            assert await client.upgrade() == 101
            for round_ in range(100):
                await gateway.replace(table(orders=[fresh], users=[users] if round_ % 2 else []))
            await client.send(b"still here")
            assert await client.receive(10) == b"still here"
            assert count_connections(old.port) == 1
            assert (await ask(shop.orders.address, 8080)).text == "orders.2\n"

        assert await wait_drained(old.port, 10)

    asyncio.run(scenario())


def test_the_first_request_finds_the_table_that_was_written_before_the_start(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        now = table(orders=[orders])
        async with replicas(orders):
            async with running(nginx, tmp_path, now, shop=shop) as gateway:
                folder = gateway.live.settings.folder
                assert folder.stat().st_mode & 0o777 == 0o700
                workers = workers_of(gateway.process.pid)
                gateway.process.kill()
                await gateway.process.wait()
                for worker in workers:
                    os.kill(worker.pid, signal.SIGKILL)
                assert await wait_gone(workers, 10)
                assert list(folder.glob("*.sock"))
            async with running(nginx, tmp_path, now, shop=shop) as again:
                # Before confirm_start's replacement: the entry came from the state file.
                told = await read_table(again.live.settings.admin_socket)
                assert told.generation == to_wire(now, frozenset()).generation
                assert (await ask(shop.orders.address, 8080)).status == 200

    asyncio.run(scenario())


def test_a_table_is_read_back_as_it_was_given_and_keys_that_left_are_gone(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders, users = Replica("orders.1", shop.ports[0]), Replica("users.1", shop.ports[4])
        async with running(
            nginx, tmp_path, table(orders=[orders], users=[users]), shop=shop
        ) as gateway:
            now = RoutingTable({"users": ()}, {"users": 'wait for "ü" & {}'}, {})
            await gateway.replace(now)

            told = await read_table(gateway.live.settings.admin_socket)
            assert told.entries == {"users": {"r": [], "w": 'wait for "ü" & {}'}}
            assert told.generation == await gateway.live.generation()
            assert await gateway.get("/users") == (503, 'wait for "ü" & {}\n')

    asyncio.run(scenario())


def test_a_table_that_does_not_fit_changes_nothing(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        async with (
            replicas(orders),
            running(nginx, tmp_path, table(orders=[orders]), shop=shop) as gateway,
        ):
            before = await gateway.live.generation()
            huge = RoutingTable({}, {f"x{n}": "y" * 400 for n in range(2000)})
            with pytest.raises(TableTooLarge):
                await gateway.replace(huge)

            # Past the client's own limit: NGINX finds its memory full halfway, and takes it back.
            entries = {f"x{n}": {"r": [], "w": "y" * 400} for n in range(3000)} | {
                "orders": {"r": []}
            }
            body = json.dumps({"generation": "g", "table": entries}).encode()
            with pytest.raises(TableTooLarge):
                await replace_table(
                    gateway.live.settings.admin_socket, WireTable("g", {}, body, b"", b"")
                )

            assert await gateway.live.generation() == before
            told = await read_table(gateway.live.settings.admin_socket)
            assert list(told.entries) == ["orders"]
            assert (await ask(shop.orders.address, 8080)).status == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "address",
    [
        "orders:8080",
        "localhost:80",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:99999",
        "::1:80",
        "unix:/run/orders.sock",
        "127.0.0.1:80 evil",
        "127.0.0.1:80;",
        "",
        "1.2.3.4:+5",
    ],
)
def test_f08_a_host_name_never_enters_the_table(address: str) -> None:
    with pytest.raises(UnsafeValue, match="cannot route to"):
        to_wire(RoutingTable({"orders": (Target(1, address),)}), frozenset())


def test_where_nothing_can_be_written_http_services_get_their_table_all_the_same(
    nginx: Nginx, tmp_path: Path
) -> None:
    """Only TCP services need a file; a folder in its place is refused even to root, as a full disk is."""

    async def scenario() -> None:
        shop = Shop()
        old, fresh = Replica("orders.1", shop.ports[0]), Replica("orders.2", shop.ports[2])
        lines = [Replica("lines.1", shop.ports[5]), Replica("lines.2", shop.ports[7])]
        now = table(orders=[old], lines=lines[:1])
        async with (
            replicas(old, fresh, *lines),
            running(nginx, tmp_path, now, shop=shop, tcp=True) as gateway,
        ):
            file = gateway.live.settings.tcp_table_path
            file.with_name(file.name + ".new").mkdir()

            await gateway.replace(table(orders=[fresh], lines=lines[:1]))
            assert (await ask(shop.orders.address, 8080)).text == "orders.2\n"

            with pytest.raises(OSError, match="Is a directory") as refused:
                await gateway.replace(table(orders=[old], lines=lines[1:]))
            assert refused.value.filename == str(file)
            assert (await ask(shop.orders.address, 8080)).text == "orders.1\n"
            assert (await ask(shop.lines.address, 7000)).text == "lines.1\n"

            file.with_name(file.name + ".new").rmdir()
            await gateway.replace(table(orders=[old], lines=lines[1:]))
            assert (await ask(shop.lines.address, 7000)).text == "lines.2\n"

    asyncio.run(scenario())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_is_full_is_told_with_the_file_that_could_not_be_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "table.new").symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left on device") as refused:
        put_file(tmp_path / "table", b"{}")

    assert refused.value.filename == str(tmp_path / "table")


def test_an_nginx_that_says_nothing_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "_TIMEOUT_SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "admin.sock"

    async def scenario() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(place.name)
            listener.listen()
            with pytest.raises(TableUnreachable, match=r"admin\.sock: no answer$"):
                await read_table(place)

    asyncio.run(scenario())


def test_replacing_without_nginx_is_told_as_such(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(TableUnreachable, match="cannot reach the routing table"):
            await read_table(tmp_path / "admin.sock")

    asyncio.run(scenario())


def test_both_replicas_take_turns(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop()
        both = [Replica("orders.1", shop.ports[0]), Replica("orders.2", shop.ports[2])]
        async with (
            replicas(*both),
            running(nginx, tmp_path, table(orders=both), shop=shop),
        ):
            answers: list[Answer] = [await ask(shop.orders.address, 8080) for _ in range(40)]

            assert Counter(each.text for each in answers) == {"orders.1\n": 20, "orders.2\n": 20}

    asyncio.run(scenario())


def test_an_empty_stack_has_a_gateway_that_starts(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(nginx, tmp_path, config=GatewayConfig("empty")) as gateway:
            assert await gateway.live.generation()

    asyncio.run(scenario())
