"""What callers meet: routes, names, headers, pages."""

import asyncio
from pathlib import Path

from tests.gateway.parts import Replica, ask, replicas
from tests.gateway.running import Nginx, Shop, running, table


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

    asyncio.run(scenario())
