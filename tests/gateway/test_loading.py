"""Getting a new configuration into a running NGINX."""

import asyncio
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from devstack.core.routes import GatewayConfig, Listen, Route, RoutingTable, Slots, Upstream
from devstack.gateway.load import (
    Candidate,
    ConfigRefused,
    Master,
    MasterGone,
    ReloadRefused,
    load_candidate,
    make_candidate,
)
from devstack.gateway.sockdiag import TcpState, tcp_sockets
from devstack.gateway.workers import Worker, end_worker, workers_of
from tests.gateway.parts import Client, Replica, ask, eventually, free_port, free_ports, replicas
from tests.gateway.running import Nginx, RunningGateway, Shop, own_address, running, table
from tests.support.processes import open_files
from tests.support.steps import SubprocessSteps


def with_service(config: GatewayConfig, name: str, at: Listen) -> GatewayConfig:
    slots = Slots(name, name, Upstream.HTTP, (at,), ((free_port(),),))
    return replace(config, services=(*config.services, slots))


def serving(gateway: RunningGateway) -> list[Worker]:
    return [each for each in workers_of(gateway.process.pid) if not each.is_leaving]


async def give_each_something_to_do(gateway: RunningGateway, kept: list[Client]) -> None:
    """Websockets, which do not end, until each worker has one: who takes a connection is theirs to say."""
    at = gateway.shop.orders

    def is_idle(worker: Worker) -> bool:
        found = tcp_sockets(TcpState.ESTABLISHED, at.port)
        own = {f"socket:[{each.inode}]" for each in found if each.address == at.address}
        return own.isdisjoint(open_files(worker.pid))

    await eventually(lambda: len(serving(gateway)) == gateway.live.settings.workers)
    while any(map(is_idle, serving(gateway))):
        client = Client(at.address, at.port)
        kept.append(await client.__aenter__())
        assert await client.upgrade() == 101


def test_a_new_service_and_route_are_in_force_when_load_returns(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        extra, at = Replica("extra.1", free_port()), Listen(own_address(), 8080)
        orders = Replica("orders.1", shop.ports[0])
        now = table(orders=[orders], extra=[extra])
        async with replicas(extra, orders), running(nginx, tmp_path, now, shop=shop) as gateway:
            before = {each.pid for each in serving(gateway)}
            config = with_service(gateway.config, "extra", at)
            config = replace(config, routes=(*config.routes, Route("/extra", "extra")))
            loaded = await gateway.load(config, now)

            assert (loaded.reloaded, loaded.busy) == (True, ())
            assert not before & {each.pid for each in serving(gateway)}
            assert (await ask(at.address, at.port)).text == "extra.1\n"
            for _ in range(20):
                assert await gateway.get("/extra") == (200, "extra.1\n")
            assert (await gateway.get("/orders"))[0] == 200

            same = await gateway.load(config, now)
            assert not same.reloaded

            gone = await gateway.load(shop.config(), now)
            assert gone.reloaded
            assert (await gateway.get("/extra"))[0] == 404
            with pytest.raises(ConnectionRefusedError):
                await ask(at.address, at.port)

    asyncio.run(scenario())


def test_f04_a_configuration_that_nginx_refuses_names_its_part_and_the_old_one_stays(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        now = table(orders=[orders])
        async with replicas(orders), running(nginx, tmp_path, now, shop=shop) as gateway:
            before = serving(gateway)
            text = gateway.live.settings.config_path.read_text()
            # The same port twice in one service: the second upstream block has a taken name.
            port = free_port()
            twice = Slots("twice", "twice", Upstream.HTTP, (), ((port, port),))
            bad = replace(gateway.config, services=(*gateway.config.services, twice))
            with pytest.raises(ConfigRefused, match="conflicting parameter") as refused:
                await gateway.load(bad, now)

            assert refused.value.origin == "services.twice"
            assert "(services.twice)" in str(refused.value)
            assert serving(gateway) == before
            assert gateway.live.settings.config_path.read_text() == text
            assert await gateway.get("/orders") == (200, "orders.1\n")

    asyncio.run(scenario())


def test_a_busy_port_is_named_with_its_holder_and_the_rest_is_loaded(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders, extra = Replica("orders.1", shop.ports[0]), Replica("extra.1", free_port())
        now = table(orders=[orders], extra=[extra])
        busy, fine = Listen(own_address(), free_port()), Listen(own_address(), 8080)
        async with replicas(orders, extra), running(nginx, tmp_path, now, shop=shop) as gateway:
            with socket.create_server((busy.address, busy.port)):
                config = with_service(gateway.config, "taken", busy)
                loaded = await gateway.load(with_service(config, "extra", fine), now)

                assert [each.listen for each in loaded.busy] == [busy]
                assert loaded.busy[0].holder is not None
                assert "in use by pid" in str(loaded.busy[0])
                assert (await ask(fine.address, fine.port)).text == "extra.1\n"
                assert (await gateway.get("/orders"))[0] == 200
            loaded = await gateway.load(config, now)
            assert not loaded.busy
            assert (await ask(busy.address, busy.port)).status == 503

    asyncio.run(scenario())


def test_a_wildcard_listener_makes_a_port_busy_at_the_start(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        port = free_port()
        shop.users = Listen(own_address(), port)
        with socket.create_server(("0.0.0.0", port)):
            async with (
                replicas(orders),
                running(nginx, tmp_path, table(orders=[orders]), shop=shop) as gateway,
            ):
                assert [each.listen for each in gateway.started.busy] == [shop.users]
                assert (await gateway.get("/orders"))[0] == 200

    asyncio.run(scenario())


async def accepted(gateway: RunningGateway, now: RoutingTable) -> tuple[Listen, Candidate]:
    """One more address, which was free while NGINX was asked about it."""
    late = Listen(own_address(), free_port())
    config = with_service(gateway.config, "late", late)
    pid = gateway.process.pid
    return late, await make_candidate(config, now, gateway.live.settings, SubprocessSteps(), pid)


def test_a_port_taken_after_the_test_is_refused_by_the_reload_and_nothing_changes(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        now = table(orders=[orders])
        async with replicas(orders), running(nginx, tmp_path, now, shop=shop) as gateway:
            settings = gateway.live.settings
            text, before = settings.config_path.read_text(), serving(gateway)
            taken, candidate = await accepted(gateway, now)
            with socket.create_server((taken.address, taken.port)):
                with pytest.raises(ReloadRefused, match=r"bind\(\) to .* failed"):
                    await load_candidate(candidate, settings, gateway.master)

                assert settings.config_path.read_text() == text
                assert serving(gateway) == before
                assert (await gateway.get("/orders"))[0] == 200

    asyncio.run(scenario())


def test_a_port_that_becomes_free_while_nginx_still_tries_is_listened_on(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        now = table(orders=[orders])
        async with replicas(orders), running(nginx, tmp_path, now, shop=shop) as gateway:
            settings = gateway.live.settings
            taken, candidate = await accepted(gateway, now)
            with socket.create_server((taken.address, taken.port)):
                loading = asyncio.ensure_future(load_candidate(candidate, settings, gateway.master))
                await eventually(lambda: "bind() to" in settings.error_log.read_text())
            try:
                await loading
            except ReloadRefused:  # only where the port became free too late for it
                assert "still could not bind()" in settings.error_log.read_text()
                return
            assert settings.config_path.read_text() == candidate.rendered.text
            assert (await ask(taken.address, taken.port)).status == 503

    asyncio.run(scenario())


def test_f07_a_websocket_and_idle_clients_outlive_a_reload_for_another_service(
    nginx: Nginx, tmp_path: Path
) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        now = table(orders=[orders])
        async with (
            replicas(orders),
            running(nginx, tmp_path, now, shop=shop) as gateway,
            Client(shop.orders.address, 8080) as websocket,
            Client(shop.orders.address, 8080) as idle,
        ):
            assert await websocket.upgrade() == 101
            assert (await idle.ask()).status == 200
            await gateway.load(
                with_service(gateway.config, "extra", Listen(own_address(), 80)), now
            )

            assert (await idle.ask("/", "POST", b"x")).status == 200
            await websocket.send(b"still here")
            assert await websocket.receive(10) == b"still here"

    asyncio.run(scenario())


def test_f07_past_eight_generations_the_oldest_is_ended(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        now = table(orders=[orders])
        async with replicas(orders), running(nginx, tmp_path, now, shop=shop) as gateway:
            first = serving(gateway)
            kept: list[Client] = []
            try:
                for generation in range(9):
                    await give_each_something_to_do(gateway, kept)
                    at = Listen(own_address(), 8080)
                    await gateway.load(with_service(shop.config(), f"extra{generation}", at), now)
                    leaving = [w for w in workers_of(gateway.process.pid) if w.is_leaving]
                    assert len(leaving) <= 8 * 2 + 2
                await eventually(
                    lambda: (
                        not {w.pid for w in first}
                        & {w.pid for w in workers_of(gateway.process.pid)}
                    )
                )
                await kept[-1].send(b"ping")
                assert await kept[-1].receive(4) == b"ping"
            finally:
                for client in kept:
                    await client.__aexit__()

    asyncio.run(scenario())


def test_loading_into_an_nginx_that_is_gone_is_told(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop()
        async with running(nginx, tmp_path, shop=shop) as gateway:

            async def does_nothing(_: int) -> None:
                gateway.process.send_signal(signal.SIGTERM)
                await gateway.process.wait()

            candidate = await make_candidate(
                gateway.config,
                table(),
                gateway.live.settings,
                SubprocessSteps(),
                gateway.process.pid,
            )
            with pytest.raises(MasterGone):
                await load_candidate(
                    candidate, gateway.live.settings, Master(gateway.process.pid, does_nothing)
                )

    asyncio.run(scenario())


def test_a_killed_worker_is_replaced_and_finds_the_table(nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = Shop()
        orders = Replica("orders.1", shop.ports[0])
        async with (
            replicas(orders),
            running(nginx, tmp_path, table(orders=[orders]), shop=shop) as gateway,
        ):
            before = {each.pid for each in serving(gateway)}
            for each in serving(gateway):
                end_worker(each)
            await eventually(lambda: len({w.pid for w in serving(gateway)} - before) == 2)
            assert (await gateway.get("/orders"))[0] == 200

    asyncio.run(scenario())


def test_many_services_and_slots_load(nginx: Nginx, tmp_path: Path) -> None:
    """Thirty services with ten slots of four ports: 1,200 blocks, 30 listens."""

    async def scenario() -> None:
        ports = iter(free_ports(1200))
        services = tuple(
            Slots(
                f"service-{n}",
                f"service-{n}",
                Upstream.HTTP,
                (Listen(own_address(), 8080),),
                tuple(tuple(next(ports) for _ in range(4)) for _ in range(10)),
            )
            for n in range(30)
        )
        last = Replica("last", services[-1].ports[-1][-1])
        config = GatewayConfig("many", services=services)
        async with (
            replicas(last),
            running(nginx, tmp_path, table(**{"service-29": [last]}), config=config),
        ):
            assert (await ask(services[-1].listens[0].address, 8080)).text == "last\n"

    asyncio.run(scenario())
