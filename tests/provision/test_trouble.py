"""Trouble with the machine (a full disk, no rights, a spoiled file) is told, and ends nothing else."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devstack.bootstrap.interpreter import lock_digest
from devstack.provision import Settings, Tool, ToolUnavailable, find_tool

Make = Callable[[str, str], Path]


def find(name: str, steps: Any, settings: Settings) -> Tool:
    return asyncio.run(find_tool(name, wanted=None, steps=steps, settings=settings))


@pytest.fixture
def nats(make_program: Make) -> Path:
    return make_program("nats-server", "nats-server: v2.10.29")


def test_what_is_on_path_is_used_where_its_answer_cannot_be_remembered(
    nats: Path, steps: Any, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    unwritable = replace(settings, path=str(nats.parent), cache=tmp_path / "file" / "cache")

    assert find("nats", steps, unwritable).version == "2.10.29"


def test_an_answer_that_cannot_be_stored_leaves_nothing_behind(
    nats: Path, steps: Any, settings: Settings
) -> None:
    (settings.cache / "probes.json" / "in the way").mkdir(parents=True)

    assert find("nats", steps, replace(settings, path=str(nats.parent))).version == "2.10.29"
    assert [path.name for path in settings.cache.iterdir()] == ["probes.json"]


@pytest.mark.parametrize("content", ["[]", "{", "null", "\xff"])
def test_a_spoiled_memory_of_answers_is_as_none(
    nats: Path, steps: Any, settings: Settings, content: str
) -> None:
    settings.cache.mkdir()
    (settings.cache / "probes.json").write_text(content, "latin-1")

    assert find("nats", steps, replace(settings, path=str(nats.parent))).version == "2.10.29"


@pytest.mark.parametrize("name", ["nats", "mysql", "mongodb"])
def test_a_cache_that_cannot_be_made_is_told_with_what_would_help(
    name: str, steps: Any, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    environment = {"HOME": str(tmp_path), "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}
    unusable = replace(settings, cache=tmp_path / "file" / "cache", environment=environment)

    with pytest.raises(ToolUnavailable, match="Not a directory") as failure:
        find(name, steps, unusable)

    assert "XDG_CACHE_HOME" in failure.value.hint


@pytest.mark.parametrize(
    ("name", "place"),
    [("mysql", "mariadb"), ("mongodb", f"secantusdb-{lock_digest('secantusdb')[:8]}")],
)
def test_a_place_that_cannot_be_written_is_told_with_what_would_help(
    name: str, place: str, steps: Any, settings: Settings
) -> None:
    (settings.cache / "tools" / f".{place}.lock").mkdir(parents=True)

    with pytest.raises(ToolUnavailable, match=r"\.lock: Is a directory") as failure:
        find(name, steps, settings)

    assert "XDG_CACHE_HOME" in failure.value.hint


@pytest.mark.parametrize("name", ["nats", "mysql", "mongodb"])
def test_settings_of_pip_that_cannot_be_read_are_told(
    name: str, steps: Any, settings: Settings, tmp_path: Path
) -> None:
    pip = tmp_path / "pip.conf"
    pip.write_bytes("# für uns\n[global]\n".encode("latin-1"))
    environment = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(pip)}

    with pytest.raises(ToolUnavailable, match="cannot read pip's settings"):
        find(name, steps, replace(settings, environment=environment))


def test_an_old_nginx_serves_where_the_cache_cannot_take_a_newer(
    make_program: Make, steps: Any, settings: Settings, tmp_path: Path
) -> None:
    old = make_program("nginx", "nginx version: nginx/1.22.1\nconfigure arguments: --with-threads")
    (tmp_path / "file").write_text("no folder")
    unusable = replace(settings, path=str(old.parent), cache=tmp_path / "file" / "cache")

    assert find("nginx", steps, unusable).version == "1.22.1"
