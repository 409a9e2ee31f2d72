"""What is written in an archive is not trusted, even when its hash was right."""

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devstack.bootstrap.download import FileRefused
from devstack.bootstrap.index_settings import IndexSettings
from devstack.bootstrap.stopping import Stop
from devstack.bootstrap.tool_cache import WheelTool
from devstack.bootstrap.tool_install import install_tool
from devstack.bootstrap.unpack import ArchiveRefused, Caps, unpack_wheel


def archive_of(tmp_path: Path, *names: str, mode: int = 0o100644) -> Path:
    path = tmp_path / "crafted.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            entry.external_attr = mode << 16
            archive.writestr(entry, "content")
    return path


@pytest.mark.parametrize(
    "name",
    ["../outside", "a/../../outside", "/etc/outside", "a\\..\\outside", "..", "a/.."],
)
def test_k09_a_path_that_leads_out_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    archive = archive_of(tmp_path, "harmless", name)

    with pytest.raises(ArchiveRefused, match="path"):
        unpack_wheel(archive, tmp_path / "into")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["crafted.whl"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_k09_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    archive = archive_of(tmp_path, "link", mode=kind | 0o777)

    with pytest.raises(ArchiveRefused, match="link or a device"):
        unpack_wheel(archive, tmp_path / "into")

    assert not (tmp_path / "into").exists()


def test_k09_an_archive_that_grows_too_much_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("zeros", bytes(20_000_000))

    with pytest.raises(ArchiveRefused, match="grow"):
        unpack_wheel(archive, tmp_path / "into")

    assert not (tmp_path / "into").exists()


def test_k09_an_archive_that_is_too_large_is_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, "one", "two")

    with pytest.raises(ArchiveRefused, match="14 bytes, more than 10"):
        unpack_wheel(archive, tmp_path / "into", caps=Caps(total_bytes=10))


def test_k09_an_archive_of_too_many_files_is_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, *(f"file{number}" for number in range(20)))

    with pytest.raises(ArchiveRefused, match="20 files, more than 10"):
        unpack_wheel(archive, tmp_path / "into", caps=Caps(entries=10))


def test_k09_a_file_that_is_larger_than_it_says_is_refused(tmp_path: Path) -> None:
    honest = io.BytesIO()
    with zipfile.ZipFile(honest, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("liar", bytes(range(256)) * 40)
    size = (10_240).to_bytes(4, "little")
    lying = honest.getvalue().replace(size, (10).to_bytes(4, "little"))
    archive = tmp_path / "lying.whl"
    archive.write_bytes(lying)

    with pytest.raises(ArchiveRefused):
        unpack_wheel(archive, tmp_path / "into")

    written = sum(path.stat().st_size for path in (tmp_path / "into").iterdir())
    assert written <= 10


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_k09_one_path_twice_is_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, "same", "same")

    with pytest.raises(ArchiveRefused, match="twice"):
        unpack_wheel(archive, tmp_path / "into")


def test_k09_a_file_that_is_used_as_a_folder_is_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, "name", "name/below")

    with pytest.raises(OSError, match="name"):
        unpack_wheel(archive, tmp_path / "into")


def test_k09_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "damaged.whl"
    archive.write_bytes(b"not a zip")

    with pytest.raises(ArchiveRefused, match="cannot unpack"):
        unpack_wheel(archive, tmp_path / "into")


def test_k09_setuid_and_write_for_others_are_not_copied(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, "program", mode=0o104777)

    unpack_wheel(archive, tmp_path / "into")

    assert stat.S_IMODE((tmp_path / "into" / "program").stat().st_mode) == 0o755


def test_k09_a_locked_but_hostile_wheel_is_deleted_and_leaves_nothing(
    index: Any,
    from_index: IndexSettings,
    make_wheel: Callable[[Callable[[zipfile.ZipFile], None] | None], bytes],
    make_tool: Callable[[bytes], WheelTool],
    tmp_path: Path,
) -> None:
    hostile = make_wheel(lambda archive: archive.writestr("../../../outside", "x"))
    index.content = hostile
    silent = lambda phase, done, total: None  # noqa: E731 - a callback of three words

    with pytest.raises(FileRefused, match=r"\.\./outside.*deleted"):
        install_tool(
            make_tool(hostile), tmp_path / "c", from_index, on_progress=silent, stop=Stop()
        )

    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []
