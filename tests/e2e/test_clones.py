"""Three clones of the sample at once on one machine."""

import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.shop import sell_a_book
from tests.support.stacks import StackUnderTest, copy_shop, stack_in

CLONES = 3


@pytest.mark.timeout(400)
def test_c07_three_clones_are_up_at_once_and_each_sells_a_book(tmp_path: Path) -> None:
    with ExitStack() as stacks:
        clones: list[StackUnderTest] = []
        for number in range(CLONES):
            folder = tmp_path / f"clone-{number}" / "shop"
            folder.parent.mkdir()
            clones.append(stacks.enter_context(stack_in(copy_shop(folder))))
        runtime = clones[0].runtime
        for clone in clones:  # one user has one runtime folder: they meet in it
            clone.runtime = runtime
        ups = [
            clone.start(
                "up", "-d", "--wait", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for clone in clones
        ]  # fmt: skip
        for up in ups:
            _, told = up.communicate(timeout=300)
            assert up.returncode == 0, told.decode()

        told_states = [clone.status() for clone in clones]
        assert len({status["stack_id"] for status in told_states}) == CLONES
        assert len({status["gateway"] for status in told_states}) == CLONES
        assert len({clone.places.control_socket for clone in clones}) == CLONES
        for of_each in (
            [[s["url"] for s in status["services"]] for status in told_states],
            [
                [r["address"] for s in status["services"] for r in s["replicas"] if r["address"]]
                for status in told_states
            ],
        ):
            flat = [value for values in of_each for value in values]
            assert len(set(flat)) == len(flat), "two clones share an address"

        sales = [sell_a_book(status["gateway"]) for status in told_states]
        for clone, sale in zip(clones, sales, strict=True):
            # the data of each is its own: no clone knows a token or an order of another
            assert (clone.folder / ".devstack" / "data").is_dir()
            others = [s for s in sales if s is not sale]
            assert all(s.token != sale.token for s in others)
        listed = clones[0].devstack("ls", "--json").out
        assert all(str(clone.folder) in listed for clone in clones)

        clones[0].devstack("down")
        clones[0].assert_nothing_left()
        for clone in clones[1:]:
            assert all(s["state"] == "ready" for s in clone.status()["services"])
            sell_a_book(clone.gateway)
