"""MongoDB or its stand-in: how its data is made, how the server is started, asked and reached."""

import asyncio
import random
import re
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from devstack.engines.base import (
    CannotPrepare,
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
from devstack.engines.seeds import Loader, SeedError, load_seeds, script_loader, seed_files
from devstack.engines.temporary import short_folder, temporary_server
from devstack.provision.tool import Tool
from devstack.steps import StepRunner

_SEED_ENDINGS = (".js", ".sh")
_ASK_SECONDS = 5.0


class Mongodb:
    """Without a user in the spec the server asks nobody who they are, as the official image does."""

    name = "mongodb"
    tool = "mongodb"
    driver = "pymongo"
    default_port = 27017
    default_user = ""
    scheme = "mongodb"

    async def prepare(
        self, spec: EngineSpec, site: Site, tool: Tool, steps: StepRunner
    ) -> DataFolder:
        # the stand-in promises nothing about its files from one version to the next
        major = tool.version if _is_stand_in(tool) else major_of(tool.version, 2)
        notes: Sequence[str] = ()
        is_new = False
        async with exclusive(site.data):
            stamp = read_stamp(site.data, spec.service)
            if stamp is None:
                stamp = new_stamp(tool.product, major, tool.version, spec)
                files, notes = seed_files(spec.service, spec.seeds, _SEED_ENDINGS)
                shell = _shell(spec, files, tool)

                async def fill(new: Path) -> None:
                    (new / "db").mkdir(mode=0o700)
                    (new / "run").mkdir(mode=0o700)
                    _configuration(new).touch()
                    write_stamp(new, stamp)
                    if spec.user or files:
                        await _set_up(new, spec, files, shell, tool, steps)

                await make_whole(site.data, fill)
                is_new = True
            else:
                notes = check_stamp(stamp, tool.product, major, spec)
        return DataFolder(site.data, stamp.data_id, tool, "same", is_new, tuple(notes))

    def command(
        self, spec: EngineSpec, folder: DataFolder, address: str, port: int
    ) -> EngineCommand:
        argv = _server(folder.tool, folder.path, spec, address, port, guarded=bool(spec.user))
        return EngineCommand(argv, dict(folder.tool.env), folder.run, signal.SIGTERM, "same")

    def clear_leftovers(self, folder: DataFolder) -> None:
        """It starts with whatever a killed one left."""
        del folder

    def query(self, spec: EngineSpec, address: str, port: int, timeout: float) -> None:
        _ping(address, port, spec.user, spec.password, spec.database, timeout)

    def url(self, spec: EngineSpec, host: str, port: int) -> str:
        """Direct, because the stand-in calls itself a replica set whose name nobody knows."""
        database = quote(spec.database, safe="")
        if not spec.user:
            return f"mongodb://{host}:{port}/{database}?directConnection=true"
        user, password = quote(spec.user, safe=""), quote(spec.password, safe="")
        return (
            f"mongodb://{user}:{password}@{host}:{port}/{database}"
            "?authSource=admin&directConnection=true"
        )


def _is_stand_in(tool: Tool) -> bool:
    return tool.product != "MongoDB"


def _server(
    tool: Tool, folder: Path, spec: EngineSpec, address: str, port: int, *, guarded: bool
) -> tuple[str, ...]:
    auth = ("--auth",) if guarded else ()
    if _is_stand_in(tool):
        return (
            *(str(program(tool, "python")), "-I", "-m", "secantus"),
            *("--config", str(_configuration(folder))),
            *("--storage-path", str(folder / "db"), "--cache-size", "128M"),
            *("--log-level", "WARNING", *auth),
            *spec.flags,  # over ours, but never over where it listens
            *("--host", address, "--port", str(port)),
        )
    return (
        *(str(program(tool, "mongod")), "--dbpath", str(folder / "db")),
        *("--wiredTigerCacheSizeGB", "0.25", "--nounixsocket", *auth),
        *("--bind_ip", address, "--port", str(port)),
        *spec.flags,  # mongod refuses an option that is given twice
    )


def _configuration(folder: Path) -> Path:
    """An empty file: without one the stand-in reads what lies in the user's home."""
    return folder / "run" / "secantusd.toml"


def _ping(address: str, port: int, user: str, password: str, database: str, timeout: float) -> None:
    try:
        # pymongo asks a closed port again for as long as it may; we are asked again anyway
        socket.create_connection((address, port), timeout).close()
    except OSError as error:
        raise NotReady(error.strerror or str(error)) from error
    import pymongo
    import pymongo.errors

    milliseconds = max(1, round(timeout * 1000))
    try:
        with pymongo.MongoClient[dict[str, object]](
            address,
            port,
            directConnection=True,
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            socketTimeoutMS=milliseconds,
            appname="devstack",
            username=user or None,
            password=password or None,
            authSource="admin",
        ) as client:
            client[database or "admin"].command("ping")
    except pymongo.errors.PyMongoError as error:
        reason = str(error).split(", full error:")[0].split(", Timeout:")[0]
        raise NotReady(reason) from error


def _shell(spec: EngineSpec, files: Sequence[Path], tool: Tool) -> Path | None:
    """mongosh, which alone runs `.js` seeds; asked for before anything starts."""
    found = tool.binaries.get("mongosh")
    if found is None:
        on_path = shutil.which("mongosh")
        found = Path(on_path) if on_path else None
    script = next((file for file in files if file.name.endswith(".js")), None)
    if found is None and script is not None:
        raise CannotPrepare(
            f"cannot seed {spec.service}: {script.name} needs mongosh, which is not on PATH",
            "install mongosh, or fill the database from the service itself or from a job",
        )
    return found


async def _set_up(
    new: Path,
    spec: EngineSpec,
    seeds: Sequence[Path],
    shell: Path | None,
    tool: Tool,
    steps: StepRunner,
) -> None:
    """User and seeds, on a server without authentication at an address that nobody knows."""
    address, port = _private_address()
    async with temporary_server(
        steps,
        _server(tool, new, spec, address, port, guarded=False),
        title=f"set up {spec.service}",
        ask=lambda: _ping(address, port, "", "", "", _ASK_SECONDS),
        stop_signal=signal.SIGTERM,
        env=tool.env,
        cwd=new / "run",
    ):
        if spec.user:
            await asyncio.to_thread(_make_user, address, port, spec)
        with short_folder() as scratch:
            variables = {
                **tool.env,
                "MONGO_INITDB_ROOT_USERNAME": spec.user,
                "MONGO_INITDB_ROOT_PASSWORD": spec.password,
                "MONGO_INITDB_DATABASE": spec.database,
                "MONGO_HOST": address,
                "MONGO_PORT": str(port),
            }
            programs = shell.parent if shell is not None else scratch
            loaders = {
                ".js": _script_loader(spec, shell, address, port, steps),
                ".sh": script_loader(steps, scratch, programs, variables),
            }
            await load_seeds(spec.service, seeds, loaders, scratch)


def _private_address() -> tuple[str, int]:
    """A loopback address and port that are free now and that nobody will guess and take."""
    address = "127.0.0.1"
    if sys.platform == "linux":
        draw = random.SystemRandom()
        address = f"127.{draw.randrange(1, 64)}.{draw.randrange(1, 255)}.{draw.randrange(1, 255)}"
    with socket.socket() as probe:
        probe.bind((address, 0))
        return address, int(probe.getsockname()[1])


def _make_user(address: str, port: int, spec: EngineSpec) -> None:
    import pymongo
    import pymongo.errors

    try:
        with pymongo.MongoClient[dict[str, object]](address, port, directConnection=True) as client:
            client.admin.command("createUser", spec.user, pwd=spec.password, roles=["root"])
    except pymongo.errors.PyMongoError as error:
        reason = str(error).split(", full error:")[0]
        raise CannotPrepare(f"cannot set up {spec.service}: {reason}") from error


def _script_loader(
    spec: EngineSpec, shell: Path | None, address: str, port: int, steps: StepRunner
) -> Loader:
    async def load(file: Path) -> None:
        assert shell is not None, "asked for before anything started"
        argv = (str(shell), "--quiet", "--norc", "--host", address, "--port", str(port))
        result = await steps.run(
            (*argv, spec.database or "test", str(file)),
            title=f"load {file.name} into {spec.service}",
            cwd=file.parent,
            check=False,
        )
        if result.code != 0:
            output = result.output.decode(errors="replace").strip()
            said = next((text for text in output.splitlines() if "Error" in text), output)
            # mongosh translates scripts: it knows the lines of syntax errors only
            line = re.search(r"^SyntaxError: .*\((\d+):\d+\)", said)
            raise SeedError(said, int(line[1]) if line else None)

    return load
