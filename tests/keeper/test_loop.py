"""The keeper's event loop: whom it calls, and when it does not."""

import os
from collections.abc import Iterator
from functools import partial

import pytest

from devstack.keeper.loop import READ, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    failures: list[Exception] = []
    yield Loop(failures.append)
    assert failures == []


def readable() -> int:
    reader, writer = os.pipe()
    os.write(writer, b"x")
    os.close(writer)
    return reader


def test_what_was_ready_on_a_descriptor_that_is_closed_is_not_told_of_the_next_with_its_number(
    loop: Loop,
) -> None:
    heard: list[str] = []
    descriptors = [readable(), readable()]
    idle, other_end = os.pipe()

    def replace_the_other(descriptor: int, _: int) -> None:
        (other,) = set(descriptors) - {descriptor}
        for old in descriptors:
            loop.forget(old)
        os.dup2(idle, other)
        loop.watch(other, READ, lambda _: heard.append("there is nothing to be read"))
        loop.after(0.01, loop.end)

    for descriptor in descriptors:
        loop.watch(descriptor, READ, partial(replace_the_other, descriptor))
    loop.run()
    for descriptor in (*descriptors, idle, other_end):
        os.close(descriptor)

    assert heard == []


def test_once_it_is_ended_nothing_is_called(loop: Loop) -> None:
    called: list[str] = []
    descriptors = [readable(), readable()]

    def end(_: int) -> None:
        called.append("end")
        loop.after(0, lambda: called.append("a timer"))
        loop.end()

    for descriptor in descriptors:
        loop.watch(descriptor, READ, end)
    loop.run()
    for descriptor in descriptors:
        os.close(descriptor)

    assert called == ["end"]
