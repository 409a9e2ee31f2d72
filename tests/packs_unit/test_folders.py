"""Artifacts that nobody needs any more lose their names at once and are removed at leisure."""

from pathlib import Path

import pytest

from devstack.packs.folders import discard, set_unused_aside


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "content").write_text(folder.name)
    return folder


def test_what_is_kept_keeps_its_name_and_all_else_loses_it(tmp_path: Path) -> None:
    kept, unused = made(tmp_path / "go-1" / "bin"), made(tmp_path / "go-2")
    abandoned = made(tmp_path / ".making-go-4242-0123")
    (tmp_path / "notes").write_text("no artifact")

    aside = set_unused_aside(tmp_path, {kept, tmp_path, tmp_path / "go-3", Path("/elsewhere")})

    assert (kept / "content").exists()
    assert not unused.exists()
    assert abandoned in aside
    assert len(aside) == 2
    assert all(folder.name.startswith(".making-") for folder in aside)
    assert {path.name for path in tmp_path.iterdir()} == {
        "go-1", "notes", *(folder.name for folder in aside)
    }  # fmt: skip


def test_what_was_set_aside_and_not_removed_is_set_aside_again(tmp_path: Path) -> None:
    made(tmp_path / "go-1")

    assert set_unused_aside(tmp_path, ()) == set_unused_aside(tmp_path, ())


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert set_unused_aside(tmp_path / "build", ()) == ()


@pytest.mark.parametrize("mode", [0o755, 0o500])
def test_an_artifact_is_removed_with_read_only_folders_in_it(tmp_path: Path, mode: int) -> None:
    folder = made(tmp_path / "go-1" / "module")
    folder.chmod(mode)

    discard(tmp_path / "go-1")

    assert list(tmp_path.iterdir()) == []
