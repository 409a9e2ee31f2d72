"""One call of devstack: the words of the user, and which stack they are about."""
# pathlib is kept out: commands start without it
# ruff: noqa: PTH100, PTH109, PTH110, PTH113, PTH118, PTH120

from __future__ import annotations

import os

from devstack.api.checkout import USUAL_FILE, taken_name
from devstack.api.client import ANSWER_SECONDS, Client, Silent, connect_soon, has_keeper
from devstack.api.locate import PlaceRefused, Places, check, places_of, stack_id_of
from devstack.cli.talk import FAILED, NO_CONTROLLER, Failed, finish, say, usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE_SECONDS = 5.0
"""How long a controller that the keeper is starting is waited for."""


class Call:
    """See the module's docstring."""

    __slots__ = ("command", "controller", "file", "words")

    def __init__(
        self,
        command: str,
        words: Sequence[str],
        file: str | None,
        controller: Sequence[str] | None = None,
    ) -> None:
        self.command = command
        self.words = words
        self.file = file
        self.controller = controller
        """How a controller is started; None: as always."""

    def stack_file(self, *, must_exist: bool = True) -> str:
        """The stack file that is meant: named, or the nearest above, as git finds its repository."""
        if self.file is not None:
            path = os.path.abspath(self.file)
            if must_exist and not os.path.isfile(path):
                what = "it is not a file" if os.path.exists(path) else "there is no such file"
                raise usage_error(f"cannot read {self.file}: {what}", "-f names a stack file")
            if taken := taken_name(path):
                raise usage_error(
                    f"cannot use {self.file} as a stack file: .devstack/{taken} belongs to the "
                    f"stack of {USUAL_FILE}",
                    "give it another name, such as dev.yaml",
                )
            return path
        return find_stack_file(os.getcwd())

    def places(self) -> Places:
        """Where the stack's sockets are; a stack file that is gone still has them."""
        return places_of(stack_id_of(self.stack_file(must_exist=False)))

    def reach(self, *, sweeps: bool = False) -> Client:
        """The controller of the stack; fails with exit code 3 where there is none.

        Then it is said what a dead run left, and a command that `sweeps` has ended that. What a
        keeper runs all the same is no dead run: that is said instead.
        """
        places = self.places()
        client = reach(places)
        if client is None:
            report_dead_runs(places, kill=sweeps)
            file = _shown(self.stack_file(must_exist=False))
            if has_keeper(places):  # controllers died so often that it waits with the next
                raise Failed(
                    f"{file} runs without a controller",
                    "devstack up takes over what runs, devstack down ends it",
                    code=NO_CONTROLLER,
                )
            raise Failed(f"{file} is not running", "devstack up starts it", code=NO_CONTROLLER)
        return client


def show_listing(call: Call, do: str, **arguments: object) -> int:
    """Print what the controller rendered; one that says nothing is not waited for."""
    client = call.reach()
    client.limit(ANSWER_SECONDS)
    answer = client.ask(do, None, **arguments)
    return finish(answer.exit_code, answer.lines)


def reach(places: Places) -> Client | None:
    """The controller that serves there; one that is just being started is waited for.

    It may take its time for what it is asked, but not without a sign of life; raises Silent.
    """
    try:
        if not check(places):
            return None
        client = connect_soon(places, PATIENCE_SECONDS)
        if client is not None:
            client.wait_patiently(tell_silence)
        return client
    except PlaceRefused as refused:
        raise Failed(str(refused), refused.hint) from refused
    except OSError as exc:
        raise Failed(
            f"cannot ask the controller of {places.stack_id}: {exc.strerror or exc}",
            f"its log is {places.controller_log}",
            code=FAILED,
        ) from exc


def tell_silence(silent: Silent) -> None:
    """Say that the controller is still waited for, and what may help."""
    say(f"{silent}: waiting for it", f"hint: {silent.hint}")


def report_dead_runs(places: Places, *, kill: bool = False) -> None:
    """Say what a run that was killed left; only commands that change something end it."""
    from devstack.keeper.sweep import sweep

    for dead in sweep([places], kill=kill):
        say(str(dead))


def find_stack_file(start: str) -> str:
    """The nearest `stack.yaml` in a folder or above it."""
    folder = os.path.realpath(start)
    while True:
        path = os.path.join(folder, USUAL_FILE)
        if os.path.isfile(path):
            return path
        above = os.path.dirname(folder)
        if above == folder:
            break
        folder = above
    hint = "write one, or name it with -f FILE"
    if os.path.isfile(os.path.join(start, "stack.yml")):
        hint = f"rename stack.yml to {USUAL_FILE}, or name it with -f stack.yml"
    raise usage_error(f"there is no {USUAL_FILE} in {start} or above it", hint)


def _shown(path: str) -> str:
    """A path as short as it can be said from here."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)
