"""PostgreSQL: how its data is made, how the server is started, asked and reached."""

import asyncio
import contextlib
import os
import re
import signal
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
    clone,
    exclusive,
    make_whole,
    new_stamp,
    read_stamp,
    template,
    template_key,
    write_stamp,
)
from devstack.engines.placement import Placement, hand_over, place_for_unprivileged
from devstack.engines.seeds import Loader, SeedError, load_seeds, script_loader, seed_files
from devstack.engines.temporary import LONGEST_SOCKET_PATH, short_folder, temporary_server
from devstack.provision.tool import Tool
from devstack.steps import StepResult, StepRunner

_ADMINISTRATOR = "postgres"
_SOCKET_PORT = 5432  # of the temporary server: part of a socket's name, never a port
_SEED_ENDINGS = (".sql", ".sql.gz", ".sh")

# The socket lies in a folder that only its owner can enter; over TCP everyone needs a password.
_HBA = """\
# Written by devstack.
local all all trust
host  all all 127.0.0.0/8 scram-sha-256
host  all all ::1/128     scram-sha-256
"""

# An acknowledged commit survives kill -9 of the server whatever these say, as it was handed to the
# kernel (`synchronous_commit` stays on). `fsync` stays on too: it costs 30 ms per stop, and without
# it a crash of the machine leaves data that cannot be opened. `full_page_writes` stays on because
# a killed process can leave half a page.
_SETTINGS = {
    "shared_buffers": "32MB",
    "timezone": "UTC",  # as in the official image, wherever the laptop is
    "log_timezone": "UTC",
}
_NOTHING_TO_LOSE = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "max_wal_size": "1GB",
}
_REPLACEMENTS = {
    "pgcrypto": "gen_random_uuid() and sha256() are built in",
    "uuid-ossp": "gen_random_uuid() is built in",
}


class Postgres:
    name = "postgres"
    tool = "postgres"
    driver = "psycopg"
    default_port = 5432
    default_user = _ADMINISTRATOR
    scheme = "postgresql"

    async def prepare(
        self, spec: EngineSpec, site: Site, tool: Tool, steps: StepRunner
    ) -> DataFolder:
        _refuse_missing_extensions(spec, tool)
        place = await place_for_unprivileged(site, tool)
        major = major_of(tool.version, 1)
        notes: Sequence[str] = ()
        is_new = False
        async with exclusive(place.data):
            stamp = read_stamp(place.data, spec.service)
            if stamp is None:
                stamp = new_stamp(tool.product, major, tool.version, spec)
                files, notes = seed_files(spec.service, spec.seeds, _SEED_ENDINGS)
                fresh = await template(
                    place.templates,
                    template_key(
                        tool.product, tool.version, str(tool.root), _HBA, *_initdb_options(tool)
                    ),
                    lambda new: _initdb(new, place, steps),
                )

                async def fill(new: Path) -> None:
                    await clone(fresh, new / "db", steps)
                    (new / "run").mkdir(mode=0o700)
                    write_stamp(new, stamp)
                    hand_over(new, place.owner)
                    await _set_up(new / "db", spec, files, place, steps)

                await make_whole(place.data, fill)
                is_new = True
            else:
                notes = check_stamp(stamp, tool.product, major, spec)
        return DataFolder(place.data, stamp.data_id, place.tool, place.run_as, is_new, tuple(notes))

    def command(
        self, spec: EngineSpec, folder: DataFolder, address: str, port: int
    ) -> EngineCommand:
        socket = folder.run / f".s.PGSQL.{port}.lock"
        fits = len(os.fsencode(socket)) <= LONGEST_SOCKET_PATH
        fixed = {
            "listen_addresses": address,
            "port": str(port),
            "unix_socket_directories": str(folder.run) if fits else "",
            "unix_socket_permissions": "0700",
        }
        argv = (
            str(program(folder.tool, "postgres")),
            *("-D", str(folder.files)),
            *_assignments(_SETTINGS),
            *_assignments(_settings_of_major(folder.tool)),
            *spec.flags,  # over ours, but never over where it listens
            *_assignments(fixed),
        )
        return EngineCommand(
            argv, dict(folder.tool.env), folder.files, signal.SIGINT, folder.run_as
        )

    def clear_leftovers(self, folder: DataFolder) -> None:
        """Its lock files, which name a pid that may be somebody else's by now, or a zombie's."""
        _remove_stale_locks(folder.files, folder.run)

    def query(self, spec: EngineSpec, address: str, port: int, timeout: float) -> None:
        _select_one(address, port, spec.user, spec.password, spec.database, timeout)

    def url(self, spec: EngineSpec, host: str, port: int) -> str:
        user, password = quote(spec.user, safe=""), quote(spec.password, safe="")
        return f"postgresql://{user}:{password}@{host}:{port}/{quote(spec.database, safe='')}"


def _select_one(
    host: str, port: int, user: str, password: str, database: str, timeout: float
) -> None:
    import psycopg

    try:
        with psycopg.connect(
            host=host,
            port=port,
            user=user,
            password=password,
            dbname=database,
            connect_timeout=max(2, round(timeout)),
            sslmode="disable",
            gssencmode="disable",
            options=f"-c statement_timeout={round(timeout * 1000)}",
            application_name="devstack",
            autocommit=True,
        ) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        raise NotReady(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return re.sub(
        r"^(connection failed: )?(connection to server .*? failed: )?((FATAL|ERROR): +)?", "", text
    )


def _initdb_options(tool: Tool) -> tuple[str, ...]:
    """The same everywhere: sorted by code point, `to_tsvector` in English as in the image."""
    locale: tuple[str, ...] = ("--locale=C",)
    if int(major_of(tool.version, 1)) >= 17:
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    elif sys.platform == "linux":
        locale = ("--locale=C.UTF-8",)
    return ("--encoding=UTF8", *locale, "--text-search-config=english")


def _settings_of_major(tool: Tool) -> dict[str, str]:
    # 18 starts three more processes for reading, which a laptop's database does not need
    return {"io_method": "sync"} if int(major_of(tool.version, 1)) >= 18 else {}


def _assignments(settings: dict[str, str]) -> tuple[str, ...]:
    return tuple(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))


async def _initdb(new: Path, place: Placement, steps: StepRunner) -> None:
    """Make a cluster that was never used; `--no-sync` because a template can be made again."""
    hand_over(new, place.owner)
    argv = (
        str(program(place.tool, "initdb")),
        *("-D", str(new)),
        *("-U", _ADMINISTRATOR),
        *_initdb_options(place.tool),
        *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"),
    )
    # TZ spares initdb the search for the machine's zone
    env = {**place.tool.env, "LC_ALL": "C", "TZ": "UTC"}
    await steps.run(argv, title="make a database cluster", env=env, run_as=place.run_as)
    (new / "pg_hba.conf").write_text(_HBA, encoding="utf-8")


async def _set_up(
    files: Path, spec: EngineSpec, seeds: Sequence[Path], place: Placement, steps: StepRunner
) -> None:
    """User, database, extensions and seeds, on a server that only a private socket reaches."""
    with short_folder() as scratch, short_folder() as sockets:
        hand_over(sockets, place.owner)
        argv = (
            str(program(place.tool, "postgres")),
            *("-D", str(files)),
            *_assignments({**_SETTINGS, **_settings_of_major(place.tool), **_NOTHING_TO_LOSE}),
            *spec.flags,
            *_assignments({"listen_addresses": "", "unix_socket_directories": str(sockets)}),
            *_assignments({"port": str(_SOCKET_PORT), "unix_socket_permissions": "0700"}),
        )
        host = str(sockets)
        async with temporary_server(
            steps,
            argv,
            title=f"set up {spec.service}",
            ask=lambda: _select_one(host, _SOCKET_PORT, _ADMINISTRATOR, "", "postgres", 5),
            stop_signal=signal.SIGINT,
            env=place.tool.env,
            cwd=files,
            run_as=place.run_as,
        ):
            await asyncio.to_thread(_make_user_and_database, host, spec)
            variables = {
                **place.tool.env,
                "POSTGRES_USER": spec.user,
                "POSTGRES_PASSWORD": spec.password,
                "POSTGRES_DB": spec.database,
                "PGHOST": host,
                "PGPORT": str(_SOCKET_PORT),
                "PGUSER": spec.user,
                "PGDATABASE": spec.database,
            }
            programs = program(place.tool, "postgres").resolve().parent
            shell = script_loader(steps, scratch, programs, variables)
            loaders = {".sql": _sql_loader(spec, place, steps, host), ".sh": shell}
            await load_seeds(spec.service, seeds, loaders, scratch)


def _make_user_and_database(host: str, spec: EngineSpec) -> None:
    import psycopg
    from psycopg import sql

    user, database = sql.Identifier(spec.user), sql.Identifier(spec.database)
    try:
        with psycopg.connect(
            host=host, port=_SOCKET_PORT, user=_ADMINISTRATOR, dbname="postgres", autocommit=True
        ) as connection:
            # Only the SCRAM verifier is sent, so that no log of the server can show the password.
            verifier = connection.pgconn.encrypt_password(
                spec.password.encode(), spec.user.encode()
            ).decode()
            verb = "ALTER" if spec.user == _ADMINISTRATOR else "CREATE"
            connection.execute(
                sql.SQL("{} ROLE {} SUPERUSER LOGIN PASSWORD {}").format(
                    sql.SQL(verb), user, sql.Literal(verifier)
                )
            )
            if spec.database != "postgres":
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, user))
        with psycopg.connect(
            host=host, port=_SOCKET_PORT, user=spec.user, dbname=spec.database, autocommit=True
        ) as connection:
            for name in spec.extensions:
                connection.execute(
                    sql.SQL("CREATE EXTENSION IF NOT EXISTS {} CASCADE").format(
                        sql.Identifier(name)
                    )
                )
    except psycopg.Error as error:
        raise CannotPrepare(f"cannot set up {spec.service}: {_first_line(error)}") from error


def _sql_loader(spec: EngineSpec, place: Placement, steps: StepRunner, host: str) -> Loader:
    """psql, because it alone understands dumps (`\\connect`, `COPY … FROM stdin`)."""
    options = (
        *("--no-psqlrc", "--quiet", "--no-password", "--set", "ON_ERROR_STOP=1"),
        *("--host", host, "--port", str(_SOCKET_PORT)),
        *("--username", spec.user, "--dbname", spec.database),
    )

    async def load(file: Path) -> None:
        result = await steps.run(
            (str(program(place.tool, "psql")), *options, "--file", str(file)),
            title=f"load {file.name} into {spec.service}",
            env=place.tool.env,
            cwd=file.parent,
            check=False,
        )
        if result.code != 0:
            raise _seed_error(file, result)

    return load


def _seed_error(file: Path, result: StepResult) -> SeedError:
    output = result.output.decode(errors="replace")
    said = rf"^psql:{re.escape(str(file))}:(\d+): (?:ERROR|FATAL|error):\s+(.+)$"
    found = re.search(said, output, re.MULTILINE)
    if found is None:
        lines = output.strip().splitlines()
        return SeedError(lines[-1] if lines else f"psql ended with code {result.code}", None)
    missing = re.search(r'extension "([^"]+)" is not available', found[2])
    return SeedError(found[2], int(found[1]), _extension_hint(missing[1]) if missing else "")


def _refuse_missing_extensions(spec: EngineSpec, tool: Tool) -> None:
    """Name what the server does not bring, before anything starts."""
    folder = _extension_folder(tool)
    if folder is None:
        return  # CREATE EXTENSION will say
    missing = [name for name in spec.extensions if not (folder / f"{name}.control").is_file()]
    if missing:
        names = ", ".join(f'"{name}"' for name in missing)
        raise CannotPrepare(
            f"cannot prepare {spec.service}: extension {names} is not part of "
            f"{tool.product} {tool.version} ({tool.origin})",
            _extension_hint(missing[0]),
        )


def _extension_hint(name: str) -> str:
    instead = f"{_REPLACEMENTS[name]}; else " if name in _REPLACEMENTS else ""
    return f"{instead}install a PostgreSQL that has {name} and put it on PATH"


def _extension_folder(tool: Tool) -> Path | None:
    prefix = program(tool, "postgres").resolve().parent.parent
    major = major_of(tool.version, 1)
    for folder in (
        prefix / "share" / "extension",
        prefix / "share" / "postgresql" / "extension",
        Path("/usr/share/postgresql") / major / "extension",
    ):
        if folder.is_dir():
            return folder
    return None


def _remove_stale_locks(files: Path, run: Path) -> None:
    """Drop the lock files of a killed server whose pid has been given to somebody else since.

    PostgreSQL then refuses to start for good. Where any process still works in the folder they
    stay: it may be a child of the old server.
    """
    locks = [
        lock for lock in (files / "postmaster.pid", *run.glob(".s.PGSQL.*.lock")) if lock.exists()
    ]
    if sys.platform != "linux" or not locks:
        return
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if (process / "cwd").readlink() == files:
                    return
    for lock in locks:
        lock.unlink(missing_ok=True)
