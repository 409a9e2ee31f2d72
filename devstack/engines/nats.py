"""NATS: its store, how the server is started, asked in its own protocol, and reached."""

import json
import signal
import socket
from pathlib import Path
from urllib.parse import quote

from devstack.engines.base import (
    DataFolder,
    EngineCommand,
    EngineSpec,
    NotReady,
    Site,
    major_of,
    program,
)
from devstack.engines.folder import (
    check_stamp,
    exclusive,
    make_whole,
    new_stamp,
    read_stamp,
    write_stamp,
)
from devstack.provision.tool import Tool
from devstack.steps import StepRunner

_LONGEST_GREETING = 1 << 20


class Nats:
    name = "nats"
    tool = "nats"
    driver = ""
    default_port = 4222
    default_user = ""
    scheme = "nats"

    async def prepare(
        self, spec: EngineSpec, site: Site, tool: Tool, steps: StepRunner
    ) -> DataFolder:
        del steps  # nothing to run: the server makes its own store
        major = major_of(tool.version, 1)
        is_new = False
        async with exclusive(site.data):
            stamp = read_stamp(site.data, spec.service)
            if stamp is None:
                stamp = new_stamp(tool.product, major, tool.version, spec)

                async def fill(new: Path) -> None:
                    (new / "db").mkdir(mode=0o700)
                    (new / "run").mkdir(mode=0o700)
                    write_stamp(new, stamp)

                await make_whole(site.data, fill)
                is_new = True
            else:
                check_stamp(stamp, tool.product, major, spec)
        folder = DataFolder(site.data, stamp.data_id, tool, "same", is_new)
        _write_configuration(spec, folder)
        return folder

    def command(
        self, spec: EngineSpec, folder: DataFolder, address: str, port: int
    ) -> EngineCommand:
        argv = (
            str(program(folder.tool, "nats-server")),
            *("-c", str(_configuration(folder))),
            *(("-js", "-sd", str(folder.files)) if spec.jetstream else ()),
            *spec.flags,  # over ours, but never over where it listens
            *("-a", address, "-p", str(port)),
        )
        return EngineCommand(argv, dict(folder.tool.env), folder.run, signal.SIGTERM, "same")

    def clear_leftovers(self, folder: DataFolder) -> None:
        """It starts with whatever a killed one left."""
        del folder

    def query(self, spec: EngineSpec, address: str, port: int, timeout: float) -> None:
        try:
            with socket.create_connection((address, port), timeout) as connection:
                _greet(connection, spec)
        except OSError as error:
            raise NotReady(error.strerror or str(error)) from error

    def url(self, spec: EngineSpec, host: str, port: int) -> str:
        if not spec.user:
            return f"nats://{host}:{port}"
        return f"nats://{quote(spec.user, safe='')}:{quote(spec.password, safe='')}@{host}:{port}"


def _greet(connection: socket.socket, spec: EngineSpec) -> None:
    """Read INFO, say who we are, and have a PING answered."""
    with connection.makefile("rb") as answers:
        info = answers.readline(_LONGEST_GREETING)
        try:
            facts = json.loads(info.removeprefix(b"INFO ")) if info.startswith(b"INFO ") else None
        except ValueError:
            facts = None
        if not isinstance(facts, dict):
            raise NotReady("what answers is no NATS server")
        if spec.jetstream and not facts.get("jetstream"):
            raise NotReady("the server runs without JetStream")
        who = {"user": spec.user, "pass": spec.password} if spec.user else {}
        hello = {"verbose": False, "pedantic": False, "name": "devstack", "lang": "python", **who}
        connection.sendall(b"CONNECT " + json.dumps(hello).encode() + b"\r\nPING\r\n")
        answer = answers.readline(_LONGEST_GREETING).strip()
    if answer != b"PONG":
        raise NotReady(answer.decode(errors="replace").removeprefix("-ERR ") or "it hung up")


def _configuration(folder: DataFolder) -> Path:
    return folder.run / "nats.conf"


def _write_configuration(spec: EngineSpec, folder: DataFolder) -> None:
    """Written anew each time: the password must not stand in argv, and data does not depend on it."""
    lines = ["# Written by devstack.", f"server_name: {json.dumps(spec.service)}"]
    if spec.user:
        user, password = json.dumps(spec.user), json.dumps(spec.password)
        lines.append(f"authorization {{ user: {user}, password: {password} }}")
    path = _configuration(folder)
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text("\n".join(lines) + "\n", encoding="utf-8")
    new.replace(path)
