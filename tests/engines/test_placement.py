"""Where a server that refuses root works when user namespaces are refused."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from devstack.engines.base import NOBODY, CannotPrepare, EngineSpec, Site
from devstack.engines.placement import (
    place_for_unprivileged,
    remove_data,
    unprivileged_root,
)
from devstack.engines.postgres import Postgres
from devstack.provision.tool import Tool
from tests.engines.conftest import run
from tests.support.engines import assert_no_process_in, running
from tests.support.steps import SubprocessSteps

ENGINE = Postgres()
SPEC = EngineSpec("auth-db", "postgres", user="shop", password="pw", database="shop")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Below a folder that `nobody` cannot enter, like a home of root."""
    tmp_path.chmod(0o700)
    stack_id = f"test-{secrets.token_hex(4)}"
    yield Site(tmp_path / "data" / "auth-db", tmp_path / "templates", "nobody", stack_id)
    assert_no_process_in(unprivileged_root(stack_id))
    shutil.rmtree(unprivileged_root(stack_id), ignore_errors=True)


@pytest.fixture
def tool(tool_of: Callable[[str], Tool]) -> Tool:
    return tool_of("postgres")


@as_root
def test_a_server_that_runs_as_nobody_has_its_programs_and_data_where_nobody_can_reach(
    site: Site, tool: Tool, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(tool.root, closed / "tool", symlinks=True)
    binaries = {
        name: closed / "tool" / path.relative_to(tool.root) for name, path in tool.binaries.items()
    }
    hidden = replace(tool, root=closed / "tool", binaries=binaries)
    seed = closed / "seed.sql"
    seed.write_text("CREATE TABLE t (n int);")
    spec = replace(SPEC, seeds=(seed,))
    steps = SubprocessSteps("nobody")
    folder = run(ENGINE.prepare(spec, site, hidden, steps))
    root = unprivileged_root(site.stack_id)
    with running(ENGINE, spec, folder, "nobody") as server:
        uid = Path(f"/proc/{server.process.pid}").stat().st_uid
        stopped = server.stop()
    again = run(ENGINE.prepare(spec, site, hidden, steps))

    assert uid == NOBODY
    assert stopped == 0
    assert folder.path == root / "data" / "auth-db"
    assert site.data.readlink() == folder.path
    assert folder.run_as == "unprivileged"
    assert folder.tool.binaries["postgres"].is_relative_to(root / "tools")
    assert root.stat().st_mode & 0o777 == 0o700
    assert root.stat().st_uid == NOBODY
    assert again.data_id == folder.data_id
    assert not again.is_new


@as_root
def test_a_folder_that_somebody_else_put_there_first_is_refused(
    site: Site, tool: Tool, tmp_path: Path
) -> None:
    root = unprivileged_root(site.stack_id)
    root.mkdir(0o777)
    with pytest.raises(CannotPrepare, match="not a private folder"):
        run(place_for_unprivileged(site, tool))
    root.rmdir()
    root.symlink_to(tmp_path)
    with pytest.raises(CannotPrepare, match="not a private folder"):
        run(place_for_unprivileged(site, tool))
    root.unlink()


@as_root
def test_data_of_a_user_namespace_and_of_nobody_are_not_taken_for_each_other(
    site: Site, tool: Tool
) -> None:
    run(place_for_unprivileged(site, tool))
    with pytest.raises(CannotPrepare, match="ran as nobody"):
        run(place_for_unprivileged(replace(site, unprivileged="user namespace"), tool))
    remove_data(site.data)
    site.data.mkdir(parents=True)
    with pytest.raises(CannotPrepare, match="user namespaces are refused"):
        run(place_for_unprivileged(site, tool))


def test_elsewhere_everything_stays_where_it_was_asked_for(
    tool_of: Callable[[str], Tool], tmp_path: Path
) -> None:
    tool = tool_of("postgres")
    plain = Site(tmp_path / "d", tmp_path / "t", "not needed", "x")
    for site, run_as in (
        (plain, "same"),
        (replace(plain, unprivileged="user namespace"), "unprivileged"),
    ):
        place = run(place_for_unprivileged(site, tool))

        assert (place.data, place.tool, place.run_as) == (site.data, tool, run_as)


def test_removing_data_follows_the_link_and_forgives_what_is_gone(tmp_path: Path) -> None:
    real, plain, link = tmp_path / "real", tmp_path / "plain", tmp_path / "link"
    real.mkdir()
    plain.mkdir()
    link.symlink_to(real)
    for folder in (plain, link, plain, link):
        remove_data(folder)

    assert list(tmp_path.iterdir()) == []
