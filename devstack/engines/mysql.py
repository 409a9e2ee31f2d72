"""MySQL or MariaDB: how its data is made, how the server is started, asked and reached."""

import asyncio
import os
import re
import signal
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
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
    clone,
    exclusive,
    make_whole,
    new_stamp,
    read_stamp,
    template,
    template_key,
    write_stamp,
)
from devstack.engines.seeds import Loader, SeedError, load_seeds, script_loader, seed_files
from devstack.engines.temporary import LONGEST_SOCKET_PATH, short_folder, temporary_server
from devstack.provision.tool import Tool
from devstack.steps import StepResult, StepRunner

if TYPE_CHECKING:  # imported where it is used: it costs the controller's start
    import pymysql
    from pymysql.cursors import Cursor

_ADMINISTRATOR = "root"
_CONNECT_SECONDS = 5.0
_SEED_ENDINGS = (".sql", ".sql.gz", ".sh")

# An acknowledged commit survives kill -9 of the server: 2 hands it to the kernel at once and
# flushes each second, so that a crash of the machine loses a second and corrupts nothing.
_OPTIONS = (
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-buffer-pool-size=32M",
    "--performance-schema=OFF",
    "--table-open-cache=400",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
    "--default-time-zone=+00:00",  # as in the official image, wherever the laptop is
    "--max-allowed-packet=64M",  # MySQL 8's default
)
_MYSQL_OPTIONS = ("--loose-mysqlx=OFF",)  # its second protocol would listen on every address
_MARIADB_OPTIONS = (
    "--innodb-log-file-size=8M",
    "--aria-pagecache-buffer-size=8M",  # this and the next save 27 MB
    "--key-buffer-size=8M",
)

# In the order of mariadb-install-db, without the help tables (a second of work for `HELP`).
_SYSTEM_TABLES = (
    "{}_system_tables.sql",
    "{}_performance_tables.sql",
    "{}_system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql",
    "{}_sys_schema.sql",
)
# The stock tables let root in from 127.0.0.1, ::1 and the host's name without a password.
_ONLY_LOCAL_ROOT = """
DELETE FROM mysql.global_priv WHERE Host <> 'localhost' OR User NOT IN ('root', 'mariadb.sys');
DELETE FROM mysql.proxies_priv WHERE Host <> 'localhost' OR User <> 'root';
"""


class Mysql:
    name = "mysql"
    tool = "mysql"
    driver = "pymysql"
    default_port = 3306
    default_user = _ADMINISTRATOR
    scheme = "mysql"

    async def prepare(
        self, spec: EngineSpec, site: Site, tool: Tool, steps: StepRunner
    ) -> DataFolder:
        major = major_of(tool.version, 2)
        notes: Sequence[str] = ()
        is_new = False
        async with exclusive(site.data):
            stamp = read_stamp(site.data, spec.service)
            if stamp is None:
                stamp = new_stamp(tool.product, major, tool.version, spec)
                files, notes = seed_files(spec.service, spec.seeds, _SEED_ENDINGS)
                recipe = (*_OPTIONS, *_MARIADB_OPTIONS, *_SYSTEM_TABLES, _ONLY_LOCAL_ROOT)
                fresh = await template(
                    site.templates,
                    template_key(tool.product, tool.version, str(tool.root), *recipe),
                    lambda new: _initialize(new, tool, steps),
                )

                async def fill(new: Path) -> None:
                    await clone(fresh, new / "db", steps)
                    (new / "run").mkdir(mode=0o700)
                    write_stamp(new, stamp)
                    await _set_up(new / "db", spec, files, tool, steps)

                await make_whole(site.data, fill)
                is_new = True
            else:
                notes = check_stamp(stamp, tool.product, major, spec)
        return DataFolder(site.data, stamp.data_id, tool, "same", is_new, tuple(notes))

    def command(
        self, spec: EngineSpec, folder: DataFolder, address: str, port: int
    ) -> EngineCommand:
        path = str(folder.run / "mysql.sock")
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            path = "mysql.sock"  # in the data folder, where the server works
        argv = (
            *_server(folder.tool, folder.files),
            f"--socket={path}",
            f"--pid-file={folder.run / 'mysql.pid'}",
            *spec.flags,  # over ours, but never over where it listens
            *(f"--bind-address={address}", f"--port={port}"),
        )
        return EngineCommand(argv, dict(folder.tool.env), folder.files, signal.SIGTERM, "same")

    def clear_leftovers(self, folder: DataFolder) -> None:
        """It starts with whatever a killed one left."""
        del folder

    def query(self, spec: EngineSpec, address: str, port: int, timeout: float) -> None:
        import pymysql

        def ask(*, tls: bool) -> None:
            with (
                pymysql.connect(
                    host=address,
                    port=port,
                    user=spec.user,
                    password=spec.password,
                    database=spec.database or None,
                    connect_timeout=timeout,
                    read_timeout=timeout,
                    write_timeout=timeout,
                    ssl_disabled=not tls,
                ) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute("SELECT 1")

        try:
            try:
                ask(tls=False)
            except RuntimeError:
                ask(tls=True)  # MySQL 8's login sends a new user's password over TLS only
        except (pymysql.MySQLError, OSError, ValueError, LookupError, struct.error) as error:
            raise NotReady(_reason(error)) from error

    def url(self, spec: EngineSpec, host: str, port: int) -> str:
        user, password = quote(spec.user, safe=""), quote(spec.password, safe="")
        return f"mysql://{user}:{password}@{host}:{port}/{quote(spec.database, safe='')}"


def _reason(error: Exception) -> str:
    text = str(error.args[-1]) if error.args else type(error).__name__
    refused = re.search(r"\[Errno \d+\] ([^)]+)", text)
    return refused[1] if refused else text


def _is_mariadb(tool: Tool) -> bool:
    return tool.product == "MariaDB"


def _server(tool: Tool, files: Path) -> tuple[str, ...]:
    """The program with everything that is the same for templates, seeds and the real server."""
    binary = tool.binaries.get("mariadbd") or program(tool, "mysqld")
    argv = [str(binary), "--no-defaults", f"--basedir={tool.root}", f"--datadir={files}"]
    if _is_mariadb(tool):
        argv += [f"--lc-messages-dir={_share(tool)}", *_MARIADB_OPTIONS]
        plugins = tool.root / "lib" / "mysql" / "plugin"
        if plugins.is_dir():
            argv.append(f"--plugin-dir={plugins}")
    else:
        argv += _MYSQL_OPTIONS
    if os.geteuid() == 0:
        argv.append("--user=root")  # the server refuses root unless it is told
    return (*argv, *_OPTIONS)


def _client(tool: Tool) -> Path:
    return tool.binaries.get("mariadb") or program(tool, "mysql")


def _share(tool: Tool) -> Path:
    for name in ("mariadb", "mysql"):
        folder = tool.root / "share" / name
        if (folder / "maria_add_gis_sp_bootstrap.sql").is_file():
            return folder
    raise CannotPrepare(
        f"cannot use {tool.product} {tool.version} from {tool.origin}: "
        f"{tool.root} has no maria_add_gis_sp_bootstrap.sql",
        f"install a complete {tool.product}, or take it off PATH to have one provisioned",
    )


async def _initialize(new: Path, tool: Tool, steps: StepRunner) -> None:
    """Make the system tables. The server ends cleanly by itself: a clone starts without recovery."""
    title = "make a database cluster"
    if not _is_mariadb(tool):
        argv = (*_server(tool, new), "--initialize-insecure")
        await steps.run(argv, title=title, env=tool.env)
        return
    share = _share(tool)
    prefix = "mariadb" if (share / "mariadb_system_tables.sql").is_file() else "mysql"
    with short_folder() as scratch:
        script = scratch / "bootstrap.sql"
        tables = [(share / name.format(prefix)).read_bytes() for name in _SYSTEM_TABLES]
        head = b"CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
        script.write_bytes(head + b"\n".join(tables) + _ONLY_LOCAL_ROOT.encode())
        argv = (*_server(tool, new), "--bootstrap", "--log-warnings=0", "--net-buffer-length=16K")
        await steps.run(argv, title=title, env=tool.env, stdin=script)


async def _set_up(
    files: Path, spec: EngineSpec, seeds: Sequence[Path], tool: Tool, steps: StepRunner
) -> None:
    """User, database and seeds, on a server that only a private socket reaches."""
    with short_folder() as scratch:
        path = scratch / "s"
        argv = (
            *_server(tool, files),
            f"--socket={path}",
            f"--pid-file={scratch / 'pid'}",
            *spec.flags,
            "--skip-networking",
        )
        async with temporary_server(
            steps,
            argv,
            title=f"set up {spec.service}",
            ask=lambda: _ask_as_root(path),
            stop_signal=signal.SIGTERM,
            env=tool.env,
            cwd=files,
        ):
            await asyncio.to_thread(_make_user_and_database, path, spec)
            variables = {
                **tool.env,
                "MYSQL_ROOT_PASSWORD": spec.password,
                "MYSQL_USER": spec.user,
                "MYSQL_PASSWORD": spec.password,
                "MYSQL_DATABASE": spec.database,
                "MYSQL_UNIX_PORT": str(path),
            }
            variables |= {
                name.replace("MYSQL", "MARIADB"): variables[name]
                for name in (
                    "MYSQL_ROOT_PASSWORD",
                    "MYSQL_USER",
                    "MYSQL_PASSWORD",
                    "MYSQL_DATABASE",
                )
            }
            loaders = {
                ".sql": _sql_loader(spec, path, tool, steps),
                ".sh": script_loader(steps, scratch, _client_names(scratch, tool), variables),
            }
            await load_seeds(spec.service, seeds, loaders, scratch)


def _client_names(scratch: Path, tool: Tool) -> Path:
    """A folder with the client under both of its names: scripts call either."""
    folder = scratch / "bin"
    folder.mkdir()
    for name in ("mysql", "mariadb"):
        (folder / name).symlink_to(_client(tool))
    return folder


def _connect_as_root(path: Path) -> "pymysql.Connection[Cursor]":
    """Through a socket of our own: pymysql forgets to close one that cannot be connected."""
    import pymysql

    connection = pymysql.connect(user=_ADMINISTRATOR, defer_connect=True, read_timeout=60)
    own = socket.socket(socket.AF_UNIX)
    try:
        own.settimeout(_CONNECT_SECONDS)
        own.connect(str(path))
        connection.connect(own)
    except BaseException:
        own.close()
        raise
    return connection


def _ask_as_root(path: Path) -> None:
    import pymysql

    try:
        _connect_as_root(path).close()
    except (pymysql.MySQLError, OSError) as error:
        raise NotReady(_reason(error)) from error


def _make_user_and_database(path: Path, spec: EngineSpec) -> None:
    import pymysql

    database = spec.database.replace("`", "``")
    own = database.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
    try:
        with _connect_as_root(path) as connection, connection.cursor() as cursor:
            if database:
                cursor.execute(f"CREATE DATABASE `{database}`")
            cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", (spec.user, spec.password))
            if spec.user == _ADMINISTRATOR:
                cursor.execute("GRANT ALL ON *.* TO %s@'%%' WITH GRANT OPTION", (spec.user,))
            elif database:
                grant = f"GRANT ALL ON `{own}`.*".replace("%", "%%")
                cursor.execute(f"{grant} TO %s@'%%'", (spec.user,))
            cursor.execute("ALTER USER 'root'@'localhost' IDENTIFIED BY %s", (spec.password,))
    except pymysql.MySQLError as error:
        raise CannotPrepare(f"cannot set up {spec.service}: {_reason(error)}") from error


def _sql_loader(spec: EngineSpec, path: Path, tool: Tool, steps: StepRunner) -> Loader:
    client = (
        str(_client(tool)),
        *("--no-defaults", f"--socket={path}", f"--user={_ADMINISTRATOR}"),
        "--default-character-set=utf8mb4",
        *((f"--database={spec.database}",) if spec.database else ()),
    )

    async def load(file: Path) -> None:
        result = await steps.run(
            client,
            title=f"load {file.name} into {spec.service}",
            env={**tool.env, "MYSQL_PWD": spec.password},
            cwd=file.parent,
            stdin=file,
            check=False,
        )
        if result.code != 0:
            raise _seed_error(result)

    return load


def _seed_error(result: StepResult) -> SeedError:
    lines = result.output.decode(errors="replace").strip().splitlines()
    said = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "")
    found = re.match(r"ERROR (\d+) \((\w+)\) at line (\d+)(?: in file: '.*?')?: (.*)", said)
    if found is None:
        return SeedError(said or f"the client ended with code {result.code}", None)
    return SeedError(f"{found[4]} (error {found[1]})", int(found[3]))
