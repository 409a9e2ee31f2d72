"""MongoDB or its stand-in for real: its data folder, seeds, server and queries."""

import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pymongo
import pytest
from pymongo.errors import OperationFailure

from devstack.engines.base import (
    CannotPrepare,
    DataVersionMismatch,
    EngineSpec,
    NotReady,
    SeedFailed,
)
from devstack.engines.mongodb import Mongodb
from devstack.provision.tool import Tool
from tests.engines.conftest import Workshop
from tests.support.engines import Server, free_port, running

ENGINE = Mongodb()
OPEN = EngineSpec(service="payments-db", engine="mongodb", database="shop")
GUARDED = replace(OPEN, user="shop", password='p@ss: "word"/%')

Client = pymongo.MongoClient[dict[str, object]]


@pytest.fixture
def tool(tool_of: Callable[[str], Tool]) -> Tool:
    return tool_of("mongodb")


def connect(server: Server) -> Client:
    return Client(ENGINE.url(server.spec, server.address, server.port))


def test_acknowledged_writes_survive_a_kill_and_the_server_stops_cleanly(
    workshop: Workshop, tool: Tool
) -> None:
    folder = workshop.prepare(ENGINE, OPEN, tool)
    with running(ENGINE, OPEN, folder, workshop.unprivileged, "127.64.3.10") as server:
        with connect(server) as client:
            kept = client.shop.get_collection(
                "kept", write_concern=pymongo.WriteConcern(w=1, j=True)
            )
            for number in range(20):
                kept.insert_one({"n": number})
        listeners = server.listeners()
        server.kill()
    again = workshop.prepare(ENGINE, OPEN, tool)
    with running(ENGINE, OPEN, again, workshop.unprivileged) as server:
        with connect(server) as client:
            count = client.shop.kept.count_documents({})
        code = server.stop()

    assert count == 20
    assert listeners == {("127.64.3.10", server.port)} or len(listeners) == 1
    assert {address for address, _ in listeners} == {"127.64.3.10"}
    assert code == 0
    assert (folder.is_new, again.is_new) == (True, False)
    assert again.data_id == folder.data_id


def test_without_user_and_seeds_no_server_is_started_to_prepare(
    workshop: Workshop, tool: Tool
) -> None:
    workshop.prepare(ENGINE, OPEN, tool)

    assert workshop.steps.ran == []


def test_a_user_is_asked_for_and_the_password_stands_in_no_argument(
    workshop: Workshop, tool: Tool
) -> None:
    folder = workshop.prepare(ENGINE, GUARDED, tool)
    command = ENGINE.command(GUARDED, folder, "127.0.0.1", 27017)
    with running(ENGINE, GUARDED, folder, workshop.unprivileged) as server:
        with connect(server) as client:
            client.shop.things.insert_one({"n": 1})
        with pytest.raises(NotReady, match=r"(?i)authentication failed"):
            ENGINE.query(replace(GUARDED, password="no"), server.address, server.port, 20.0)
        with (
            Client(server.address, server.port, directConnection=True) as nobody,
            pytest.raises(OperationFailure, match="requires authentication"),
        ):
            nobody.shop.things.insert_one({"n": 2})

    words = [word for argv in (*workshop.steps.ran, command.argv) for word in argv]
    assert not [word for word in words if GUARDED.password in word]


def test_a_shell_seed_sees_the_images_variables(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    seed = tmp_path / "seed.sh"
    seen = tmp_path / "seen"
    seed.write_text(f'echo "$MONGO_INITDB_ROOT_USERNAME $MONGO_INITDB_DATABASE" > "{seen}"\n')
    workshop.prepare(ENGINE, replace(GUARDED, seeds=(seed,)), tool)

    assert seen.read_text() == "shop shop\n"


def test_a_failing_shell_seed_is_told_with_its_line_and_leaves_no_folder(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    seed = tmp_path / "seed.sh"
    seed.write_text("set -e\n\nfalse\n")
    with pytest.raises(SeedFailed, match=r"seed\.sh:3: it ended with code 1"):
        workshop.prepare(ENGINE, replace(OPEN, seeds=(seed,)), tool)

    assert [path.name for path in (tmp_path / "data").iterdir()] == [".db.lock"]


def test_a_js_seed_without_mongosh_is_refused_before_anything_starts(
    workshop: Workshop, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = tmp_path / "seed.js"
    seed.write_text("db.t.insertOne({n: 1})\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotPrepare, match=r"seed\.js needs mongosh"):
        workshop.prepare(ENGINE, replace(OPEN, seeds=(seed,)), tool)

    assert workshop.steps.ran == []


@pytest.mark.skipif(shutil.which("mongosh") is None, reason="mongosh is not on PATH")
def test_js_seeds_load_and_a_failing_one_is_told(
    workshop: Workshop, tool: Tool, tmp_path: Path
) -> None:
    good, bad, broken = (tmp_path / f"{name}.js" for name in ("good", "bad", "broken"))
    good.write_text("db.t.insertOne({n: 1})\n")
    bad.write_text("db.t.insertOne({n: 1})\n\nnowhere.insertOne({})\n")
    broken.write_text("let x = 1;\nfoo(;\n")
    spec = replace(GUARDED, seeds=(good,))
    folder = workshop.prepare(ENGINE, spec, tool)
    with running(ENGINE, spec, folder, workshop.unprivileged) as server, connect(server) as client:
        count = client.shop.t.count_documents({})
    with pytest.raises(SeedFailed, match="nowhere is not defined") as failed:
        workshop.prepare(ENGINE, replace(GUARDED, seeds=(bad,)), tool, "other")

    with pytest.raises(SeedFailed, match=r"broken\.js:2: SyntaxError"):
        workshop.prepare(ENGINE, replace(GUARDED, seeds=(broken,)), tool, "other")

    assert count == 1
    assert failed.value.file == bad


def test_data_of_another_version_is_refused(workshop: Workshop, tool: Tool) -> None:
    workshop.prepare(ENGINE, OPEN, tool)
    with pytest.raises(DataVersionMismatch, match="made by"):
        workshop.prepare(ENGINE, OPEN, replace(tool, version="99.1.0"))


def test_what_is_closed_or_silent_is_not_ready_in_time() -> None:
    with pytest.raises(NotReady, match="refused"):
        ENGINE.query(OPEN, "127.0.0.1", free_port(), 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NotReady):
        ENGINE.query(OPEN, "127.0.0.1", silent.getsockname()[1], 0.3)


def test_the_url_carries_every_character_of_a_password() -> None:
    assert ENGINE.url(OPEN, "db", 27017) == "mongodb://db:27017/shop?directConnection=true"
    assert ENGINE.url(GUARDED, "db", 27017) == (
        "mongodb://shop:p%40ss%3A%20%22word%22%2F%25@db:27017/shop"
        "?authSource=admin&directConnection=true"
    )
