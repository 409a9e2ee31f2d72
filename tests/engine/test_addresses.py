"""Where a service is reached, with names and without, and what happens to a number that is taken."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devstack.core.env import injected
from devstack.core.events import GatewayShape
from devstack.core.model import Condition, Dependency, Endpoint, Gateway, Scheme, Service
from devstack.core.routes import Listen
from devstack.core.template import Reference
from devstack.engine.addresses import Address, AddressBook, Consumer, UnknownReference
from devstack.engine.identity import Identity
from tests.engine.kit import (
    book_of,
    database,
    identity_here,
    service,
    stack_of,
    unused_port,
)

MAIN = Endpoint("main", 8080)


def lookup(book: AddressBook, text: str, me: Service, consumer: Consumer = Consumer.VIEW) -> str:
    """`orders.url` or `orders.admin.port`, as a replica of `me` on 11000 sees it."""
    name, *endpoint, field = text.split(".")
    ports = {endpoint.name: 11000 + n for n, endpoint in enumerate(me.endpoints)}
    reference = Reference(name, field, endpoint[0] if endpoint else None)
    return book.lookup(reference, me=me, ports=ports, consumer=consumer)


def test_with_names_every_service_has_its_own_address_and_keeps_its_number(tmp_path: Path) -> None:
    book = book_of(tmp_path, identity_here())
    web, api, db = service("web", MAIN), service("api", MAIN), database("db")

    book.assign(stack_of(web, api, db))

    listens = [book.listen(each.name, each.endpoints[0]) for each in (web, api, db)]
    assert [listen.port for listen in listens] == [8080, 8080, 5432]
    assert len({listen.address for listen in listens}) == 3
    assert all(listen.address.startswith("127.101.77.") for listen in listens)
    assert book.resolve("api", MAIN, Consumer.VIEW) == Address("api", 8080)
    assert book.resolve("api", MAIN, Consumer.HOST) == Address(listens[1].address, 8080)
    assert book.problems == ()


def test_without_names_everybody_is_on_127_0_0_1_with_a_stable_port(tmp_path: Path) -> None:
    identity = identity_here()
    book = book_of(tmp_path, identity, names=False)
    web, api = service("web", MAIN), service("api", MAIN)

    book.assign(stack_of(web, api))

    first = book.listen("web", MAIN)
    assert first.address == book.listen("api", MAIN).address == "127.0.0.1"
    assert first.port != book.listen("api", MAIN).port != 8080
    assert book.resolve("web", MAIN, Consumer.VIEW) == Address("127.0.0.1", first.port)
    assert book.hosts_file() is None
    again = book_of(tmp_path / "other-run", identity, names=False)
    (tmp_path / "other-run").mkdir()
    again.assign(stack_of(web, api))
    assert again.listen("web", MAIN) == first


def test_without_names_a_taken_port_is_left_for_another_at_the_start_of_a_run_and_told(
    tmp_path: Path,
) -> None:
    identity = identity_here()
    stack = stack_of(service("web", MAIN), database("db"))
    before = book_of(tmp_path, identity, names=False)
    before.assign(stack)
    had = before.listen("web", MAIN)
    with socket.create_server((had.address, had.port)):
        # it may be the stack's own: nothing moves in a run, nor when one is taken over
        before.assign(stack)
        adopting = book_of(tmp_path, identity, names=False)
        adopting.recall()
        adopting.assign(stack)
        assert before.listen("web", MAIN) == adopting.listen("web", MAIN) == had

        book = book_of(tmp_path, identity, names=False)
        book.assign(stack)
        moved = book.listen("web", MAIN)
        assert moved.port != had.port
        assert book.problems == (
            f"web is now dialled at 127.0.0.1:{moved.port}: {had.port}, which it had, is in use",
        )
        assert book.listen("db", Endpoint("main", 5432)) == before.listen(
            "db", Endpoint("main", 5432)
        )
    following = book_of(tmp_path, identity, names=False)
    following.assign(stack)
    assert following.listen("web", MAIN) == moved
    assert following.problems == ()


def test_two_checkouts_that_chose_the_same_ports_have_different_ones_when_both_run(
    tmp_path: Path,
) -> None:
    """Neither listens yet: what the other has is known by its identity, not by a test alone."""
    stack = stack_of(service("web", MAIN), database("db"))
    first = identity_here()
    book = book_of(tmp_path, first, names=False)
    book.assign(stack)
    web = stack.services["web"]
    ports = [p for _, found in book.slot_ports(web, 1) for p in found]
    second = replace(first, dialled=dict(first.dialled), ports=dict(first.ports))

    other = book_of(tmp_path, second, names=False, others=(first,))
    other.assign(stack)

    assert second.first_port != first.first_port
    assert not first.numbers & set(second.dialled.values())
    assert not set(ports) & {p for _, found in other.slot_ports(web, 1) for p in found}
    assert len(other.problems) == 2
    for own, running in ((first, second), (second, first)):
        again = book_of(tmp_path, own, names=False, others=(running,))
        again.assign(stack)
        assert again.problems == (), "now they differ for good"


def test_numbers_of_services_that_are_no_longer_there_are_given_out_again(tmp_path: Path) -> None:
    identity = identity_here()
    for name in range(253):
        identity.host(f"earlier-{name}")
    book = book_of(tmp_path, identity)

    book.assign(stack_of(service("web", MAIN), service("api", MAIN)))

    assert book.listen("web", MAIN).address != book.listen("api", MAIN).address


def test_a_busy_address_falls_back_to_127_0_0_1_and_says_so_once(tmp_path: Path) -> None:
    identity = identity_here()
    book = book_of(tmp_path, identity)
    web, api = service("web", MAIN), service("api", MAIN)
    with socket.create_server((identity.host("web"), 8080)):
        book.assign(stack_of(web, api))
        listen = book.listen("web", MAIN)

        assert listen.address == "127.0.0.1"
        assert book.problems == (
            f"web is dialled at 127.0.0.1:{listen.port}: port 8080 on its own address is in use",
        )
        assert book.resolve("web", MAIN, Consumer.VIEW) == Address("127.0.0.1", listen.port)
        assert book.resolve("api", MAIN, Consumer.VIEW) == Address("api", 8080)
    # callers know the port by now: it stays, and is still told, when the same file is loaded again
    book.assign(stack_of(web, api))
    assert book.listen("web", MAIN) == listen
    assert len(book.problems) == 1
    adopting = book_of(tmp_path, identity)
    adopting.recall()
    adopting.assign(stack_of(web, api))
    assert adopting.problems == book.problems


def test_an_address_keeps_while_its_own_listener_holds_it(tmp_path: Path) -> None:
    """A second `up` must not take the stack's own NGINX for a stranger."""
    identity = identity_here()
    book = book_of(tmp_path, identity)
    web = service("web", MAIN)
    book.assign(stack_of(web))
    with socket.create_server((identity.host("web"), 8080)):
        book.assign(stack_of(web, service("api", MAIN)))

        assert book.listen("web", MAIN) == Listen(identity.host("web"), 8080)
        assert book.problems == ()


def test_a_changed_port_gets_a_new_address(tmp_path: Path) -> None:
    identity = identity_here()
    book = book_of(tmp_path, identity)
    book.assign(stack_of(service("web", MAIN)))
    moved = Endpoint("main", 9090)

    book.assign(stack_of(service("web", moved)))

    assert book.listen("web", moved) == Listen(identity.host("web"), 9090)


def test_the_gateway_moves_when_another_holds_its_port_and_stays_there(tmp_path: Path) -> None:
    identity = identity_here()
    with socket.create_server(("127.0.0.1", 0)) as other:
        wanted = other.getsockname()[1]
        stack = stack_of(gateway=Gateway(port=wanted))
        book = book_of(tmp_path, identity)
        book.assign(stack)
        moved = book.gateway_listen
        assert moved is not None
        assert moved.address == "127.0.0.1"
        assert moved.port != wanted
        assert book.gateway_url() == f"http://127.0.0.1:{moved.port}"
        book.assign(stack)
        assert book.gateway_listen == moved
        # the next run of the same checkout gets the same one
        (tmp_path / "next").mkdir()
        following = book_of(tmp_path / "next", identity)
        following.assign(stack)
        assert following.gateway_listen == moved


def test_a_fixed_gateway_port_insists(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        wanted = other.getsockname()[1]
        book = book_of(tmp_path, identity_here())

        book.assign(stack_of(gateway=Gateway(port=wanted, fixed=True)))

        assert book.gateway_listen == Listen("127.0.0.1", wanted)


def test_a_stack_without_a_gateway_section_has_no_public_url(tmp_path: Path) -> None:
    book = book_of(tmp_path, identity_here())

    book.assign(stack_of(service("web", MAIN)))

    assert book.gateway_listen is None
    assert book.gateway_url() is None


def test_a_fixed_port_is_dialled_where_the_program_listens(tmp_path: Path) -> None:
    fixed = Endpoint("main", 28_111, fixed=True)
    book = book_of(tmp_path, identity_here())
    web = service("web", fixed)

    book.assign(stack_of(web))

    assert book.listen("web", fixed) == Listen("127.0.0.1", 28_111)
    assert list(book.slot_ports(web, 1)) == [(fixed, (28_111,))]
    assert book.resolve("web", fixed, Consumer.HOST) == Address("127.0.0.1", 28_111)


def test_a_number_that_is_fixed_for_one_service_is_kept_free_of_all_others(tmp_path: Path) -> None:
    wild, web = service("wild", Endpoint("main", 8080, fixed=True)), service("web", MAIN)
    book = book_of(tmp_path, identity_here())
    book.assign(stack_of(web))
    assert book.listen("web", MAIN).port == 8080

    book.assign(stack_of(web, wild))

    moved = book.listen("web", MAIN)
    assert moved.address == "127.0.0.1"
    assert moved.port != 8080
    assert book.resolve("web", MAIN, Consumer.VIEW) == Address("127.0.0.1", moved.port)
    [told] = book.problems
    assert told.startswith(f"web is dialled at 127.0.0.1:{moved.port}: port 8080 is fixed for wild")


def test_a_fixed_port_beside_others_is_dialled_by_number_and_the_others_by_name(
    tmp_path: Path,
) -> None:
    old = Endpoint("old", 28_111, fixed=True)
    identity = identity_here()
    for endpoints in ((MAIN, old), (old, MAIN)):
        book = book_of(tmp_path, identity)
        web = service("web", *endpoints)

        book.assign(stack_of(web))

        hosts = book.hosts_file()
        assert hosts is not None
        assert hosts.splitlines()[0] == f"{identity.host('web')} web"
        assert lookup(book, "web.old.address", web) == "127.0.0.1:28111"
        name = "web" if endpoints[0] == MAIN else "web.main"
        assert lookup(book, f"{name}.address", web) == "web:8080"


def test_a_name_leads_to_the_ports_that_kept_its_address_when_the_first_could_not(
    tmp_path: Path,
) -> None:
    identity = identity_here()
    book = book_of(tmp_path, identity)
    admin = Endpoint("admin", 9000)
    web = service("web", MAIN, admin)
    with socket.create_server((identity.host("web"), 8080)):
        book.assign(stack_of(web))

    hosts = book.hosts_file()
    assert hosts is not None
    assert hosts.splitlines()[0] == f"{identity.host('web')} web"
    assert lookup(book, "web.admin.address", web) == "web:9000"
    assert lookup(book, "web.address", web) == f"127.0.0.1:{book.listen('web', MAIN).port}"


def test_a_replicas_own_url_has_the_scheme_of_its_port(tmp_path: Path) -> None:
    book = book_of(tmp_path, identity_here())
    admin = Endpoint("admin", 9000, Scheme.TCP)
    me = service("me", MAIN, admin)

    book.assign(stack_of(me))

    assert lookup(book, "self.url", me) == "http://127.0.0.1:11000"
    assert lookup(book, "self.admin.url", me) == "tcp://127.0.0.1:11001"


def test_a_reference_gives_every_field_of_service_and_database(tmp_path: Path) -> None:
    identity = identity_here()
    book = book_of(tmp_path, identity)
    admin = Endpoint("admin", 9000, Scheme.TCP)
    me, web, db = service("me", MAIN), service("web", MAIN, admin), database("db")
    book.assign(stack_of(me, web, db, gateway=Gateway(port=unused_port())))
    password = identity.password("db")

    assert {f: lookup(book, f"web.{f}", me) for f in ("url", "host", "port", "address")} == {
        "url": "http://web:8080",
        "host": "web",
        "port": "8080",
        "address": "web:8080",
    }
    assert lookup(book, "web.admin.address", me) == "web:9000"
    assert lookup(book, "web.admin.url", me) == "tcp://web:9000"
    assert lookup(book, "web.address", me, Consumer.HOST) == f"{identity.host('web')}:8080"
    url = f"postgresql://shop:{password}@db:5432/books"
    assert {
        f: lookup(book, f"db.{f}", me)
        for f in ("url", "dsn", "host", "port", "user", "password", "database")
    } == {
        "url": url,
        "dsn": url,
        "host": "db",
        "port": "5432",
        "user": "shop",
        "password": password,
        "database": "books",
    }
    assert {f: lookup(book, f"self.{f}", me) for f in ("url", "host", "port", "address")} == {
        "url": "http://127.0.0.1:11000",
        "host": "127.0.0.1",
        "port": "11000",
        "address": "127.0.0.1:11000",
    }
    assert lookup(book, "gateway.url", me) == book.gateway_url()


def test_a_reference_to_what_is_not_there_says_what_is_missing(tmp_path: Path) -> None:
    book = book_of(tmp_path, identity_here())
    me, worker = service("me", MAIN), service("worker")
    book.assign(stack_of(me, worker))

    for text, words in (
        ("me.password", "asks a service for a password"),
        ("worker.url", "no port"),
        ("worker.port", "no endpoint"),
        ("me.admin.port", "no endpoint admin"),
        ("me.path", "no field path"),
    ):
        with pytest.raises(UnknownReference, match=words):
            lookup(book, text, me)


def test_who_was_started_with_another_stack_asks_in_vain_for_what_has_left_it(
    tmp_path: Path,
) -> None:
    cache = service("cache", MAIN)
    web = service("web", MAIN, depends_on=(Dependency("cache", Condition.READY),))
    book = book_of(tmp_path, identity_here())
    book.assign(stack_of(web, cache))
    book.assign(stack_of(service("web", MAIN)))

    for ask in (
        lambda: book.listen("cache", MAIN),
        lambda: book.resolve("cache", MAIN, Consumer.VIEW),
        lambda: lookup(book, "cache.url", web),
    ):
        with pytest.raises(UnknownReference, match="cache is no longer in the stack file"):
            ask()
    assert injected(web, stack_of(web), lambda _: "") == injected(
        service("web", MAIN), stack_of(web), lambda _: ""
    )


def test_the_hosts_file_has_every_name_before_the_machines_own(tmp_path: Path) -> None:
    identity = identity_here()
    book = book_of(tmp_path, identity)
    book.assign(stack_of(service("web", MAIN), database("db"), service("worker")))

    hosts = book.hosts_file()

    assert hosts is not None
    lines = hosts.splitlines()
    assert lines[:2] == [f"{identity.host('web')} web", f"{identity.host('db')} db"]
    assert "127.0.0.1 localhost" in lines
    assert not any(line.endswith(" worker") for line in lines)


def test_further_endpoints_have_routing_keys_of_their_own(tmp_path: Path) -> None:
    book = book_of(tmp_path, identity_here())
    admin = Endpoint("admin", 9000, Scheme.TCP)
    web, port = service("web", MAIN, admin), unused_port()
    book.assign(stack_of(web, gateway=Gateway(port=port)))

    config = book.gateway_config(GatewayShape(public=True, slots=(("web", 3),)))

    assert [slots.key for slots in config.services] == ["web", "web.admin"]
    assert [slots.upstream for slots in config.services] == ["http", "tcp"]
    assert [len(slots.ports) for slots in config.services] == [3, 3]
    ports = [p for slots in config.services for slot in slots.ports for p in slot]
    assert len(ports) == len(set(ports)) == 24
    assert config.public == (Listen("127.0.0.1", port),)


def test_what_was_assigned_is_recalled_by_the_next_controller(tmp_path: Path) -> None:
    identity = identity_here()
    book = book_of(tmp_path, identity)
    port = unused_port()
    stack = stack_of(service("web", MAIN), gateway=Gateway(port=port))
    book.assign(stack)
    with (
        socket.create_server((identity.host("web"), 8080)),
        socket.create_server(("127.0.0.1", port)),
    ):
        adopting = book_of(tmp_path, identity)
        adopting.recall()
        adopting.assign(stack)

        assert adopting.listen("web", MAIN) == book.listen("web", MAIN)
        assert adopting.gateway_listen == book.gateway_listen
        assert adopting.problems == ()


def test_i04_garbage_in_the_kept_addresses_is_as_if_there_were_none(tmp_path: Path) -> None:
    identity = identity_here()
    for garbage in (b"", b"\0\0", b"[]", b"null", b"{}", b'{"listens": 3, "gateway": 4}'):
        (tmp_path / "addresses.json").write_bytes(garbage)
        book = book_of(tmp_path, identity)

        book.recall()
        book.assign(stack_of(service("web", MAIN)))

        assert book.listen("web", MAIN) == Listen(identity.host("web"), 8080), garbage


@st.composite
def stacks(draw: st.DrawFn) -> list[Service]:
    """Services and databases that dial numbers right where replicas get theirs."""
    numbers = st.integers(10_240, 10_300)
    services: list[Service] = []
    for index in range(draw(st.integers(1, 4))):
        name = f"s{index}"
        ports = draw(st.lists(numbers, min_size=1, max_size=3, unique=True))
        endpoints = tuple(Endpoint(f"e{n}", port) for n, port in enumerate(ports))
        services.append(service(name, *endpoints))
    return services


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=stacks(), second=stacks(), names=st.booleans(), gateway=st.integers(10_240, 10_300))
def test_ports_of_replicas_never_equal_a_dialled_number(
    tmp_path: Path, first: list[Service], second: list[Service], names: bool, gateway: int
) -> None:
    """Wildcard listeners: a replica on 0.0.0.0:P would take what callers dial at P."""
    book = book_of(tmp_path, Identity(network="127.101.77", first_port=10_240), names=names)
    for services in (first, second):
        book.assign(stack_of(*services, gateway=Gateway(port=gateway)))

        dialled = {endpoint.port for each in services for endpoint in each.endpoints}
        dialled |= {book.listen(s.name, e).port for s in services for e in s.endpoints}
        assert book.gateway_listen is not None
        dialled.add(book.gateway_listen.port)
        given_out = [
            port
            for each in services
            for slot in (1, 2)
            for _, ports in book.slot_ports(each, slot)
            for port in ports
        ]
        assert not dialled.intersection(given_out)
        assert len(given_out) == len(set(given_out))


def test_a_dependency_on_a_service_without_a_port_adds_no_name(tmp_path: Path) -> None:
    book = book_of(tmp_path, identity_here())
    worker = service("worker")
    web = service("web", MAIN, depends_on=(Dependency("worker", Condition.STARTED),))

    book.assign(stack_of(worker, web))

    assert book.url("worker", Consumer.VIEW) is None
