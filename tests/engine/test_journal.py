"""The journal: read by cursor, bounded, with gaps told; and the board for those who only watch."""

import asyncio
import contextlib

import pytest

from devstack.core.events import Noted
from devstack.core.tell import Line, Tone
from devstack.engine.board import Board
from devstack.engine.journal import Journal
from devstack.steps import Progress


def filled(count: int, capacity: int = 100) -> Journal:
    journal = Journal(capacity=capacity)
    for number in range(1, count + 1):
        journal.append(Noted(f"event {number}", None), float(number))
    return journal


def test_a_reader_gets_what_came_after_its_cursor() -> None:
    journal = filled(5)

    missed, entries = journal.after(3)

    assert missed == 0
    assert [(each.number, each.wall) for each in entries] == [(4, 4.0), (5, 5.0)]
    assert journal.after(journal.last) == (0, [])
    assert journal.after(99) == (0, [])


def test_a_reader_that_fell_behind_is_told_how_much_it_missed() -> None:
    journal = filled(25, capacity=10)

    assert journal.last == 25
    missed, entries = journal.after(5)
    assert missed == 10  # 6 to 15
    assert [each.number for each in entries] == list(range(16, 26))
    assert journal.after(15)[0] == 0
    assert journal.after(14)[0] == 1


def test_an_empty_journal_has_nothing_and_misses_nothing() -> None:
    journal = Journal()

    assert journal.last == 0
    assert journal.after(0) == (0, [])
    assert journal.tail(5) == []


def test_the_tail_is_the_newest_entries_oldest_first() -> None:
    assert [each.number for each in filled(8).tail(3)] == [6, 7, 8]


def test_numbers_go_on_where_an_earlier_journal_stopped() -> None:
    journal = Journal(first=1001)

    assert journal.last == 1000
    assert journal.append(Noted("x", None), 0.0).number == 1001


def test_whoever_waits_wakes_with_the_next_entry() -> None:
    async def scenario() -> list[int]:
        journal = filled(2)
        woken: list[int] = []

        async def wait(number: int) -> None:
            await journal.wait_after(number)
            woken.append(number)

        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(wait(1))  # already there
            later = [tasks.create_task(wait(2)), tasks.create_task(wait(3))]
            gone = tasks.create_task(wait(2))
            await asyncio.sleep(0)
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone
            assert woken == [1]
            journal.append(Noted("third", None), 0.0)
            await later[0]
            assert woken == [1, 2]
            journal.append(Noted("fourth", None), 0.0)
        return woken

    assert asyncio.run(scenario()) == [1, 2, 3]


def test_each_follower_of_the_board_gets_all_that_is_told_from_then_on() -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        board = Board()
        board.open()
        board.tell(Line("web", "nobody hears this", Tone.INFO))

        async def follow() -> list[str]:
            return [told.text async for told in board.follow()]

        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            first = tasks.create_task(follow())
            await asyncio.sleep(0)
            board.tell(Line("web", "one", Tone.GOOD))
            second = tasks.create_task(follow())
            await asyncio.sleep(0)
            await asyncio.to_thread(board.report, "db", Progress("initdb", 1, 2, "steps"))
            await asyncio.sleep(0)
            board.close()
        return first.result(), second.result()

    assert asyncio.run(scenario()) == (["one", "initdb"], ["initdb"])


def test_who_follows_a_closed_board_is_not_kept_waiting() -> None:
    async def scenario() -> list[object]:
        board = Board()
        board.open()
        board.close()
        async with asyncio.timeout(10):
            return [told async for told in board.follow()]

    assert asyncio.run(scenario()) == []


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_missed_and_seen_together_are_all_there_was(capacity: int) -> None:
    journal = filled(20, capacity)
    for cursor in range(21):
        missed, entries = journal.after(cursor)
        assert missed + len(entries) == 20 - cursor
