"""`devstack up`: starts the stack or applies a changed file, and follows it."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from devstack import __version__
from devstack.api import launch
from devstack.api.client import Client, Lost, OtherProtocol, connect_soon
from devstack.api.locate import PlaceRefused, Places, make, stack_id_of
from devstack.api.wire import PROTOCOL, is_newer
from devstack.cli import talk
from devstack.cli.call import PATIENCE_SECONDS, Call, tell_silence
from devstack.cli.options import Options, read
from devstack.keeper.sweep import sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from devstack.cli.screen import Screen
    from devstack.cli.session import Session

USAGE = """\
usage: devstack up [-d] [--wait] [--timeout SECONDS] [--offline] [--dry-run]

Starts the stack, shows its progress, then its logs. Ctrl-C stops everything; once more kills it.
Where the stack runs already, applies the changed file and follows; Ctrl-C then only stops following.

  -d, --detach         return when the file is applied; the stack runs on
  --wait               with -d (which it implies): return 0 when all is ready, 1 with the reasons as
                       soon as something failed for good or time is up; what did start keeps running
  --timeout SECONDS    wait no longer (300)
  --offline            use only what is in the cache
  --dry-run            print what would run, and run nothing
"""

USUAL_SECONDS = 300.0


def run(call: Call) -> int:
    """Find or start the controller, hand it the file, and stay as asked."""
    options = read(
        call.command,
        call.words,
        flags={
            "-d": "detach",
            "--detach": "detach",
            "--wait": "wait",
            "--offline": "offline",
            "--dry-run": "dry-run",
        },
        values={"--timeout": "--timeout"},
    )
    seconds = options.seconds("--timeout", USUAL_SECONDS)
    file = os.path.realpath(call.stack_file())
    if "dry-run" in options:
        from devstack.cli.dry_run import show

        return show(Path(file))
    reading = _Reading(file)
    screen: Screen | None = None

    def wait() -> None:
        # done while the controller starts, as everything that it is not started with
        nonlocal screen
        if screen is None:
            reading.read()
            from devstack.cli.screen import choose_screen

            screen = choose_screen(reading.name)
        screen.tick()

    try:
        places = make(stack_id_of(file))
        client = _running(places)
        if client is None:
            for dead in sweep([places], kill=True):
                talk.say(str(dead))
            client = launch.start(places, file, os.environ, command=call.controller, on_wait=wait)
            client.wait_patiently(tell_silence)
            hello = client.greet()
            if hello.protocol != PROTOCOL:
                raise OtherProtocol(hello)
        wait()
        assert screen is not None
        for warning in reading.warnings:
            screen.say(warning)
        return _session(client, places, screen, reading.name, options, seconds).run(
            {
                "stack": reading.read(),
                "environment": dict(os.environ),
                "offline": "offline" in options,
            }
        )
    except PlaceRefused as refused:
        raise talk.Failed(str(refused), refused.hint) from refused
    except launch.CannotStart as cannot:
        raise talk.Failed(str(cannot), cannot.hint) from cannot
    finally:
        if screen is not None:
            screen.settle()


class _Reading:
    """The stack file, read once; its problems are told here, and a controller is not troubled with them."""

    def __init__(self, file: str) -> None:
        self._file = Path(file)
        self._stack: object = None
        self.name = ""
        """Of the stack, once it was read."""
        self.warnings: tuple[str, ...] = ()

    def read(self) -> object:
        """The stack as plain data. Raises Failed with every problem of the file."""
        if self._stack is None:
            gc.disable()  # it finds nothing among so many new modules, and takes a tenth of the time
            try:
                self._load()
            finally:
                gc.enable()
        return self._stack

    def _load(self) -> None:
        from devstack.config.load import load
        from devstack.config.problems import ConfigError
        from devstack.core.plain import to_plain

        try:
            loaded = load(self._file, os.environ)
        except ConfigError as wrong:
            raise talk.Failed(str(wrong), code=talk.USAGE) from wrong
        self._stack = to_plain(loaded.stack)
        self.name = loaded.stack.name
        self.warnings = tuple(warning.render() for warning in loaded.warnings)


def _running(places: Places) -> Client | None:
    """The controller that runs; an older one is asked to leave what runs to a new one."""
    client = connect_soon(places, PATIENCE_SECONDS)
    if client is None:
        return None
    client.wait_patiently(tell_silence)
    hello = client.greet()
    if hello.protocol != PROTOCOL:
        raise OtherProtocol(hello)
    if not is_newer(__version__, than=hello.version):
        return client
    talk.say(f"replacing the controller (devstack {hello.version}) by {__version__}; all runs on")
    try:
        client.ask("leave")
        while True:
            client.wait()
    except Lost:
        client.close()
    return None


def _session(
    client: Client, places: Places, screen: Screen, name: str, options: Options, seconds: float
) -> Session:
    from devstack.cli.session import Session

    return Session(
        client,
        places,
        screen,
        name=name,
        detached="detach" in options or "wait" in options,
        waits="wait" in options,
        timeout=seconds,
    )
