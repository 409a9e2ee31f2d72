"""Where the gateway's NGINX lives: its folder, the files in it, and how it is started.

All paths in the configuration are relative to the folder, which is also NGINX's working folder: no
character of a user's path reaches the configuration, and no unix socket's path gets too long.
"""

from dataclasses import dataclass, field
from pathlib import Path

from devstack.gateway.features import Features

CONFIG_NAME = "nginx.conf"
CANDIDATE_NAME = "nginx.conf.new"
ERROR_LOG_NAME = "error.log"
ACCESS_LOG_NAME = "access.log"
PID_NAME = "nginx.pid"
STATE_NAME = "table.json"
TCP_TABLE_NAME = "tcp.json"
ADMIN_SOCKET_NAME = "admin.sock"
AGAIN_SOCKET_NAME = "again.sock"
TCP_NONE_SOCKET_NAME = "tcp-none.sock"

ZONE_BYTES = 1 << 20
"""Size of the routing table's zone; fixed, because a changed size empties it on a reload."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What rendering and starting NGINX need to know beside the stack."""

    program: Path
    features: Features
    folder: Path
    """Of its own, 0700, short-lived: one run's."""
    as_root: bool
    open_files: int = 4096
    """The hard limit of open files that its workers can raise theirs to."""
    workers: int = 2
    beyond_loopback: frozenset[str] = field(default_factory=frozenset)
    """Addresses outside of 127.0.0.0/8 and ::1 that may be listened on nevertheless."""

    def command(self) -> tuple[str, ...]:
        """How NGINX is started, in `folder` as its working folder; it stays in the foreground."""
        return (*self._program_here(ERROR_LOG_NAME), "-c", CONFIG_NAME)

    def test_command(self) -> tuple[str, ...]:
        """How NGINX is asked whether it accepts the candidate, in `folder` as well."""
        return (*self._program_here("stderr"), "-q", "-t", "-c", CANDIDATE_NAME)

    def _program_here(self, log: str) -> tuple[str, ...]:
        return (str(self.program), "-p", f"{self.folder}/", "-e", log)

    @property
    def config_path(self) -> Path:
        return self.folder / CONFIG_NAME

    @property
    def candidate_path(self) -> Path:
        return self.folder / CANDIDATE_NAME

    @property
    def access_log(self) -> Path:
        return self.folder / ACCESS_LOG_NAME

    @property
    def error_log(self) -> Path:
        return self.folder / ERROR_LOG_NAME

    @property
    def pid_path(self) -> Path:
        return self.folder / PID_NAME

    @property
    def state_path(self) -> Path:
        return self.folder / STATE_NAME

    @property
    def tcp_table_path(self) -> Path:
        return self.folder / TCP_TABLE_NAME

    @property
    def admin_socket(self) -> Path:
        return self.folder / ADMIN_SOCKET_NAME
