"""How NGINX gets a new configuration: candidate, checks, rename, HUP, and proof that it is in force.

HUP has no reply, `nginx -t` does not see a busy port, and a first new answer proves nothing: a
configuration is loaded when every earlier worker is gone or calls itself shutting down. It is refused
when the error log has a new `emerg` after which NGINX does not try again. Whatever fails, the old
configuration stays.
"""

import asyncio
import errno
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from devstack.core.routes import GatewayConfig, Listen, RoutingTable
from devstack.gateway.directive import Rendered
from devstack.gateway.files import put_file
from devstack.gateway.listeners import Listener, holder_of, listeners_among
from devstack.gateway.render import all_listens, render
from devstack.gateway.script import place_script
from devstack.gateway.settings import CANDIDATE_NAME, GatewaySettings
from devstack.gateway.workers import Worker, end_worker, start_time, workers_of
from devstack.steps import StepRunner

MOST_GENERATIONS = 8
"""Generations of workers that may finish what they have; past it the oldest is ended."""

_CONFIRM_SECONDS = 15.0
_LOOK_SECONDS = 0.005
_TRIES_AGAIN = re.compile(r"(?:bind|listen)\(\) to ")
"""It does so five times, half a second apart, and then says `still could not bind()` (ngx_open_listening_sockets)."""
_BLAMED_LINE = re.compile(re.escape(CANDIDATE_NAME) + r":(\d+)")


class ConfigRefused(Exception):
    """NGINX does not accept a candidate configuration; the old one stays."""

    def __init__(self, complaint: str, origin: str) -> None:
        about = f" ({origin})" if origin else ""
        super().__init__(f"cannot load the gateway's configuration{about}: {complaint}")
        self.complaint = complaint
        self.origin = origin
        """The part of the stack file that the complaint is about, such as `services.orders`."""


class ReloadRefused(Exception):
    """The running NGINX did not take over an accepted configuration; the old one stays."""


class MasterGone(Exception):
    """The NGINX that was to load a configuration does not run."""


@dataclass(frozen=True, slots=True)
class Master:
    """The running NGINX."""

    pid: int
    signal: Callable[[int], Awaitable[None]]
    """Sends it a signal; only the keeper knows it by more than its pid."""


@dataclass(frozen=True, slots=True)
class BusyListen:
    """An address that was left out of the configuration, and why."""

    listen: Listen
    reason: str
    holder: Listener | None

    def __str__(self) -> str:
        where = f"{self.listen.address}:{self.listen.port}"
        return f"cannot listen on {where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration that NGINX accepts."""

    config: GatewayConfig
    rendered: Rendered
    busy: tuple[BusyListen, ...]


async def make_candidate(
    config: GatewayConfig,
    table: RoutingTable,
    settings: GatewaySettings,
    steps: StepRunner,
    master_pid: int | None,
) -> Candidate:
    """Render `config`, without the addresses that others hold, and ask NGINX about it.

    Raises what `render` does, and `ConfigRefused`.
    """
    held = listeners_among([master_pid]) if master_pid is not None else []
    ours = {(each.address, each.port) for each in held}
    busy = tuple(find_busy(at for at in all_listens(config) if (at.address, at.port) not in ours))
    config = without_listens(config, {each.listen for each in busy})
    # off the loop: a hundred services take half a second
    rendered = await asyncio.to_thread(render, config, settings, table)
    place_script(settings.folder)
    put_file(settings.candidate_path, rendered.text.encode())
    told = await steps.run(
        settings.test_command(),
        title="check the gateway's configuration",
        cwd=settings.folder,
        check=False,
    )
    if told.code != 0:
        raise _refusal(told.output.decode(errors="replace"), rendered)
    return Candidate(config, rendered, busy)


def _refusal(output: str, rendered: Rendered) -> ConfigRefused:
    complaint = next(iter(_complaints(output)), "") or output.strip()[-300:]
    blamed = _BLAMED_LINE.search(complaint)
    origin = rendered.origin_of(int(blamed[1])) if blamed else ""
    return ConfigRefused(complaint or "NGINX does not say why", origin)


def find_busy(listens: Iterable[Listen]) -> list[BusyListen]:
    """Those of `listens` that cannot be bound, each with its holder."""
    return [busy for at in listens if (busy := _try_bind(at)) is not None]


def without_listens(config: GatewayConfig, left_out: set[Listen]) -> GatewayConfig:
    """`config` with some addresses not listened on."""
    if not left_out:
        return config
    return replace(
        config,
        public=tuple(at for at in config.public if at not in left_out),
        services=tuple(
            replace(slots, listens=tuple(at for at in slots.listens if at not in left_out))
            for slots in config.services
        ),
    )


def _try_bind(at: Listen) -> BusyListen | None:
    family = socket.AF_INET6 if ":" in at.address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tried.bind((at.address, at.port))
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            return BusyListen(at, (exc.strerror or str(exc)).lower(), None)
        holder = holder_of(at.address, at.port)
        who = f" by {holder.holder}" if holder is not None else ""
        return BusyListen(at, f"port {at.port} is in use{who}", holder)
    return None


async def load_candidate(
    candidate: Candidate,
    settings: GatewaySettings,
    master: Master,
    end: Callable[[Worker], None] = end_worker,
) -> tuple[Worker, ...]:
    """Make `candidate` the configuration of the running NGINX; returns the workers it replaced.

    Raises `ReloadRefused` and `MasterGone`; then the configuration file is the old one again.
    """
    earlier = workers_of(master.pid)
    log_end = _size(settings.error_log)
    before = settings.config_path.read_bytes()
    put_file(settings.candidate_path, candidate.rendered.text.encode())
    settings.candidate_path.replace(settings.config_path)
    try:
        await master.signal(signal.SIGHUP)
        await _confirm(master, earlier, settings.error_log, log_end)
    except BaseException:
        settings.config_path.write_bytes(before)
        raise
    _end_oldest(master, settings.workers, end)
    return earlier


async def wait_gone(workers: Iterable[Worker], grace_seconds: float) -> bool:
    """Wait until none of `workers` is left; False when the grace is over first."""
    left = list(workers)
    try:
        async with asyncio.timeout(grace_seconds):
            while True:
                left = [each for each in left if start_time(each.pid) == each.started]
                if not left:
                    return True
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        return False


async def wait_started(master_pid: int, settings: GatewaySettings, timeout_seconds: float) -> None:
    """Wait until a just started NGINX serves; raises `ReloadRefused` or `MasterGone` with its reason."""
    try:
        async with asyncio.timeout(timeout_seconds):
            while not workers_of(master_pid):
                if start_time(master_pid) is None:
                    raise MasterGone(f"cannot start the gateway: {_last_emerg(settings.error_log)}")
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise ReloadRefused(
            f"cannot start the gateway: no worker within {timeout_seconds:g} s"
        ) from None


async def _confirm(
    master: Master, earlier: tuple[Worker, ...], error_log: Path, log_end: int
) -> None:
    names = {(each.pid, each.started) for each in earlier}
    try:
        async with asyncio.timeout(_CONFIRM_SECONDS):
            while True:
                complaints = _new_emerg(error_log, log_end)
                if not all(map(_TRIES_AGAIN.match, complaints)):
                    raise ReloadRefused(f"cannot load the gateway's configuration: {complaints[0]}")
                serving = [each for each in workers_of(master.pid) if not each.is_leaving]
                if serving and not any((each.pid, each.started) in names for each in serving):
                    return
                if start_time(master.pid) is None:
                    raise MasterGone("cannot load the gateway's configuration: NGINX has gone")
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise ReloadRefused(
            f"cannot load the gateway's configuration: NGINX did not take it in {_CONFIRM_SECONDS:g} s"
        ) from None


def _end_oldest(master: Master, workers: int, end: Callable[[Worker], None]) -> None:
    leaving = [each for each in workers_of(master.pid) if each.is_leaving]
    for each in leaving[: max(0, len(leaving) - MOST_GENERATIONS * workers)]:
        end(each)


def _new_emerg(error_log: Path, since: int) -> list[str]:
    try:
        with error_log.open("rb") as log:
            log.seek(since)
            return _complaints(log.read().decode(errors="replace"))
    except FileNotFoundError:
        return []


def _complaints(text: str) -> list[str]:
    # `1234#1234: ` is process and thread.
    return re.findall(r"\[emerg\] (?:\d+#\d+: )?(.*)", text)


def _last_emerg(error_log: Path) -> str:
    found = _new_emerg(error_log, max(0, _size(error_log) - 8192))
    return found[0] if found else "it ended without a reason"


def _size(place: Path) -> int:
    try:
        return place.stat().st_size
    except FileNotFoundError:
        return 0
