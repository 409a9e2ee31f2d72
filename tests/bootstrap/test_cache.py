"""What is in the cache is whole, and what is not whole is replaced and leaves nothing behind."""

from pathlib import Path

import pytest

from devstack.bootstrap.cache import (
    move_into_place,
    move_unless_there,
    remove_scratch,
    remove_tree,
    scratch_folder,
)


def folder_with(content: str, path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "content").write_text(content)
    return path


def test_a_finished_folder_takes_the_place_of_a_broken_one(tmp_path: Path) -> None:
    place = folder_with("broken", tmp_path / "tool-1.2")
    scratch = scratch_folder(place)
    made = folder_with("whole", scratch / "tool")

    move_into_place(made, place)
    remove_tree(scratch)

    assert (place / "content").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["tool-1.2"]


def test_where_anybody_may_make_a_place_what_is_there_first_is_kept(tmp_path: Path) -> None:
    place = folder_with("first", tmp_path / "tool-1.2")
    made = folder_with("second", scratch_folder(place) / "tool")

    move_unless_there(made, place)

    assert (place / "content").read_text() == "first"


def test_another_reason_than_a_folder_that_is_there_is_told(tmp_path: Path) -> None:
    place = tmp_path / "tool-1.2"
    place.write_text("a file")
    made = folder_with("whole", tmp_path / ".tool-1.2.x" / "tool")

    with pytest.raises(NotADirectoryError):
        move_unless_there(made, place)


def test_what_a_kill_in_the_middle_of_a_removal_left_is_removed_with_the_scratch(
    tmp_path: Path,
) -> None:
    place = tmp_path / "tool-1.2"
    folder_with("half a scratch folder", scratch_folder(place) / "tool")
    folder_with("half a broken tool", tmp_path / ".tool-1.2.gone.4242")

    remove_scratch(place)

    assert list(tmp_path.iterdir()) == []
