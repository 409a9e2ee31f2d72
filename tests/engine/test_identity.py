"""What stays the same for a checkout, and how a new one chooses."""

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.core.policy import PORTS_PER_SLOT
from devstack.engine import identity as identities
from devstack.engine.identity import BLOCK, FIRST_PORT, LAST_PORT, Identity, choose, load, save


def all_free(network: str, ports: range) -> bool:
    assert network.startswith("127.")
    assert len(ports) == BLOCK
    return True


def test_the_same_checkout_of_the_same_user_always_chooses_the_same() -> None:
    first = choose("0123456789", all_free, uid=1000)

    assert choose("0123456789", all_free, uid=1000) == first
    assert choose("0123456789", all_free, uid=1001) != first
    assert choose("9876543210", all_free, uid=1000) != first


@settings(deadline=None)
@given(st.text("0123456789abcdef", min_size=10, max_size=10), st.integers(0, 70_000))
def test_networks_are_in_127_64_and_blocks_outside_the_ephemeral_range(
    stack_id: str, uid: int
) -> None:
    chosen = choose(stack_id, all_free, uid=uid)

    numbers = [int(number) for number in chosen.network.split(".")]
    assert numbers[0] == 127
    assert 64 <= numbers[1] < 128
    assert 0 <= numbers[2] < 256
    assert chosen.first_port >= FIRST_PORT
    assert chosen.first_port + BLOCK - 1 < 32768


def test_a_candidate_in_use_is_passed_over_for_the_next_one() -> None:
    asked: list[str] = []

    def only_the_third(network: str, ports: range) -> bool:
        del ports
        asked.append(network)
        return len(asked) == 3

    chosen = choose("0123456789", only_the_third, uid=1)

    assert len(set(asked)) == 3
    assert chosen.network == asked[2]
    assert chosen.network != choose("0123456789", all_free, uid=1).network


def test_c05_a_checkout_gets_ports_outside_a_larger_ephemeral_range_while_there_are_any() -> None:
    ephemeral = set(range(15000, 61001))
    for number in range(50):
        stack_id = f"{number:010x}"
        first = choose(stack_id, lambda _, ports: not ephemeral & set(ports), uid=1).first_port

        assert FIRST_PORT <= first <= 15000 - BLOCK


def test_a_machine_without_a_free_block_still_gets_an_identity() -> None:
    chosen = choose("0123456789", lambda network, ports: False, uid=1)

    assert chosen.network == choose("0123456789", all_free, uid=1).network


def test_each_service_keeps_an_address_of_its_own() -> None:
    identity = Identity(network="127.70.1")

    first = [identity.host(name) for name in ("web", "db", "web")]

    assert first == ["127.70.1.2", "127.70.1.3", "127.70.1.2"]


def test_a_password_is_made_once_and_is_long() -> None:
    identity = Identity()

    password = identity.password("db")

    assert len(password) >= 24
    assert identity.password("db") == password
    assert identity.password("other-db") != password


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["web.1", "web.2", "api.1", "api.1/admin"]), st.booleans()),
        max_size=12,
    ),
    st.frozensets(st.integers(20_000, 20_060)),
)
def test_slot_ports_are_four_apart_from_all_others_and_from_what_is_dialled(
    asked: list[tuple[str, bool]], dialled: frozenset[int]
) -> None:
    identity = Identity(first_port=20_000)
    seen: dict[str, tuple[int, ...]] = {}
    for key, is_service_port in asked:
        if is_service_port:
            identity.dialled_port(f"dialled-{key}", lambda port: port % 2 == 0)
        avoid = dialled | set(identity.dialled.values())
        seen[key] = identity.slot_ports(key, avoid)
        assert seen[key] == identity.slot_ports(key, avoid)

    given_out = [port for ports in identity.ports.values() for port in ports]
    assert len(given_out) == len(set(given_out)) == PORTS_PER_SLOT * len(identity.ports)
    assert not set(given_out) & dialled
    assert not set(given_out) & set(identity.dialled.values())
    assert all(FIRST_PORT <= port <= LAST_PORT for port in given_out)


def test_a_slot_moves_when_somebody_starts_to_dial_one_of_its_numbers() -> None:
    identity = Identity(first_port=20_000)
    before = identity.slot_ports("web.1", frozenset())

    after = identity.slot_ports("web.1", frozenset({before[2]}))

    assert before[2] not in after
    assert len(after) == PORTS_PER_SLOT


def exhausted() -> Identity:
    """Slots of a service have every port that slots may have."""
    identity = Identity(first_port=20_000)
    number = 1
    while identity.slot_ports(f"many.{number}", frozenset()):
        number += 1
    return identity


def test_a_slot_has_all_its_ports_or_none_where_no_more_are_left() -> None:
    identity = exhausted()

    assert {len(ports) for ports in identity.ports.values()} == {PORTS_PER_SLOT}
    assert identity.slot_ports("web.1", frozenset()) == ()
    assert identity.slot_ports("many.1", frozenset()) == tuple(identity.ports["many.1"])


def test_slots_leave_ports_for_what_is_dialled() -> None:
    identity = exhausted()

    port = identity.dialled_port("web", lambda _: True)

    assert port not in {port for ports in identity.ports.values() for port in ports}


def test_ports_of_a_service_that_left_the_stack_file_are_given_to_others() -> None:
    identity = exhausted()
    identity.make_room(["many", "web"])
    assert identity.slot_ports("web.1", frozenset()) == ()

    identity.make_room(["web"])

    assert len(identity.slot_ports("web.1", frozenset())) == PORTS_PER_SLOT
    assert list(identity.ports) == ["web.1"]


def test_a_run_begins_without_the_ports_of_earlier_ones_where_they_would_run_out() -> None:
    """Slots of a service that was scaled down would have theirs for ever."""
    identity = exhausted()
    few = Identity(first_port=20_000)
    kept = few.slot_ports("web.1", frozenset())

    identity.keep_apart([])
    few.keep_apart([])

    assert len(identity.slot_ports("web.1", frozenset())) == PORTS_PER_SLOT
    assert few.slot_ports("web.1", frozenset()) == kept


def test_a_stack_file_that_asks_for_less_ports_finds_the_old_ones_again(tmp_path: Path) -> None:
    file = tmp_path / "identity.json"
    identity = Identity(network="127.70.1", first_port=20_000)
    ports = identity.slot_ports("web.1", frozenset())
    host, password = identity.host("web"), identity.password("db")
    save(identity, file)

    again = load(file)

    assert again == identity
    assert again is not None
    assert again.slot_ports("web.1", frozenset()) == ports
    assert (again.host("web"), again.password("db")) == (host, password)


def test_k05_the_file_with_passwords_is_the_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "identity.json"
    identity = Identity()
    identity.password("db")

    save(identity, file)

    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["identity.json"]


def test_nothing_is_written_when_nothing_is_new(tmp_path: Path) -> None:
    file = tmp_path / "identity.json"
    identity = Identity(network="127.70.1")
    save(identity, file)
    file.unlink()

    save(identity, file)
    assert not file.exists()

    identity.host("web")
    save(identity, file)
    assert json.loads(file.read_text())["hosts"] == {"web": 2}


def test_an_identity_of_a_version_that_wrote_less_keeps_what_it_has(tmp_path: Path) -> None:
    """Or the next thing that is kept would cost everybody the passwords of their databases."""
    file = tmp_path / "identity.json"
    file.write_text('{"schema": 1, "network": "127.91.7", "passwords": {"db": "secret"}}')

    known = load(file)
    assert known is not None
    assert (known.network, known.password("db")) == ("127.91.7", "secret")
    assert known.hosts == {}
    assert file.exists()


def test_i04_a_broken_identity_is_set_aside_and_chosen_anew(tmp_path: Path) -> None:
    for garbage in (b"", b"\0" * 64, b"{", b"[]", b'"x"', b'{"network": 1}', b'{"what": 2}'):
        file = tmp_path / "identity.json"
        file.write_bytes(garbage)

        assert load(file) is None, garbage
        # whoever had a database with the password in it can still find it
        (kept,) = tmp_path.glob("identity.bad-*")
        assert kept.read_bytes() == garbage
        kept.unlink()
    assert identities.load(tmp_path / "no-such-file.json") is None
