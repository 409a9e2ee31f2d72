"""What happened lately outlives the controller that told it."""

import shutil
from pathlib import Path

import pytest

from devstack.core.tell import Line, Tone
from devstack.engine.history import History

BOOT = "boot-1"
ENDED = (99.0, Line("web", "web.2#1 ended", Tone.BAD))


def told(history: History, first: int, last: int) -> None:
    for number in range(first, last):
        history.add(Line(None, f"line {number}"), float(number))


def read(path: Path, boot: str = BOOT) -> History:
    history = History(path, boot)
    history.read()
    return history


def texts(history: History) -> list[str]:
    return [line.text for _, line in history.lines()]


def test_the_next_controller_has_the_lines_and_goes_on_behind_them(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    first = History(path, BOOT)
    first.add(ENDED[1], ENDED[0])
    first.write()
    second = read(path)
    second.add(Line(None, "caf\udce9 ☕"), 100.0)
    second.write()

    assert read(path).lines() == [ENDED, (100.0, Line(None, "caf\udce9 ☕"))]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_lines_told_before_the_file_was_read_come_last(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    first = History(path, BOOT)
    told(first, 0, 2)
    first.write()
    second = History(path, BOOT)
    told(second, 2, 3)
    second.read()

    assert texts(second) == ["line 0", "line 1", "line 2"]


def test_only_the_newest_thousand_are_kept_and_the_file_does_not_grow_for_ever(
    tmp_path: Path,
) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path, BOOT)
    for start in range(0, 5000, 100):
        told(history, start, start + 100)
        history.write()

    assert texts(history) == texts(read(path)) == [f"line {n}" for n in range(4000, 5000)]
    assert len(path.read_text().splitlines()) <= 2001


def test_appending_costs_the_new_lines_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path, BOOT)
    told(history, 0, 500)
    history.write()
    before, inode = path.read_bytes(), path.stat().st_ino
    told(history, 500, 501)
    history.write()

    assert path.stat().st_ino == inode
    assert path.read_bytes().startswith(before)


def test_i04_what_a_killed_writer_left_unfinished_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path, BOOT)
    told(history, 0, 3)
    history.write()
    for cut in range(2, 12):
        content = path.read_bytes()[:-cut]
        other = tmp_path / "cut.jsonl"
        other.write_bytes(content)
        after = read(other)
        told(after, 7, 8)
        after.write()

        assert texts(read(other)) == ["line 0", "line 1", "line 7"]


def test_i04_garbage_is_no_history(tmp_path: Path) -> None:
    for number, garbage in enumerate(
        (b"", b"\0" * 64, b"{}", b"[1]\n", b"\xff\xfe", b'["boot-1"]\n[1]\n3')
    ):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(garbage)

        assert read(path).lines() == []


def test_i02_nothing_of_another_boot_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path, BOOT)
    told(history, 0, 3)
    history.write()

    assert read(path, "boot-2").lines() == []


def test_what_could_not_be_written_is_there_once_when_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history.jsonl"
    path.parent.mkdir()
    history = History(path, BOOT)
    told(history, 0, 2)
    history.write()
    shutil.rmtree(path.parent)
    path.parent.touch()
    for number in range(2, 5000):
        told(history, number, number + 1)
    with pytest.raises(OSError, match="Not a directory"):
        history.write()
    path.parent.unlink()
    path.parent.mkdir()
    history.write()

    assert texts(read(path)) == [f"line {n}" for n in range(4000, 5000)]


def test_a_file_that_somebody_removed_is_whole_again_with_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path, BOOT)
    told(history, 0, 3)
    history.write()
    path.unlink()
    history.is_gone()
    told(history, 3, 4)
    history.write()
    assert texts(read(path)) == [f"line {n}" for n in range(4)]

    history.forget()
    assert list(tmp_path.iterdir()) == []
