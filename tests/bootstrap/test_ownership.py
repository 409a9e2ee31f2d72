"""What others own or can write in the cache is never run, by root neither."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.bootstrap import interpreter
from devstack.bootstrap.cache import CacheUnusable
from devstack.bootstrap.index_settings import IndexSettings
from devstack.bootstrap.ownership import is_ours
from devstack.bootstrap.stopping import Stop
from devstack.bootstrap.tool_cache import WheelTool, cached_tool
from devstack.bootstrap.tool_install import install_tool

NOBODY = 65534


def give_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    os.chown(path, NOBODY, NOBODY)


def let_the_group_write(path: Path) -> None:
    path.chmod(0o775)


def let_all_write(path: Path) -> None:
    path.chmod(0o777)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A place of the cache `tmp_path/cache`."""
    place = tmp_path / "cache" / "tools" / "tool-1.2"
    place.mkdir(parents=True)
    for folder in (place, place.parent, place.parent.parent):
        folder.chmod(0o755)
    return place


@pytest.mark.parametrize("spoil", [give_away, let_the_group_write, let_all_write])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["the cache", "all tools", "the tool"])
def test_a_place_is_ours_only_with_all_folders_above_it(
    place: Path, spoil: Callable[[Path], None], which: int
) -> None:
    assert is_ours(place)

    spoil((place.parent.parent, place.parent, place)[which])

    assert not is_ours(place)


def test_a_cache_that_is_a_link_to_a_folder_of_ours_is_ours(place: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "cache")

    assert is_ours(tmp_path / "link" / "tools" / "tool-1.2")


def test_a_cached_tool_of_another_user_is_not_used_but_made_again(
    tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    install_tool(tool, cache, from_index, on_progress=lambda *_: None, stop=Stop())
    assert cached_tool(tool, cache) is not None
    place = cache / "tools" / tool.folder_name
    give_away(place)

    assert cached_tool(tool, cache) is None
    install_tool(tool, cache, from_index, on_progress=lambda *_: None, stop=Stop())

    assert place.stat().st_uid == os.geteuid()


def test_a_cache_of_another_user_is_refused_in_words(
    tool: WheelTool, from_index: IndexSettings, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    install_tool(tool, cache, from_index, on_progress=lambda *_: None, stop=Stop())
    give_away(cache)

    with pytest.raises(CacheUnusable, match="it belongs to another user"):
        install_tool(tool, cache, from_index, on_progress=lambda *_: None, stop=Stop())


def test_an_environment_of_another_user_is_not_entered(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    place = interpreter.environment_folder("runtime", environment)
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").symlink_to(sys.executable)
    (place / "pyvenv.cfg").write_text("home = /usr/bin\n")
    interpreter.write_marker(place, "runtime")
    for folder in (place, place.parent, place.parent.parent):
        folder.chmod(0o755)
    assert interpreter.ready_python("runtime", environment) is not None

    give_away(place)

    assert interpreter.ready_python("runtime", environment) is None
