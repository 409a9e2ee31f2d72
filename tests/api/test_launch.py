"""A controller that does not come up is told in the words that it left."""

import os
import re
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest

from devstack.api import launch
from devstack.api.client import Silent
from devstack.api.launch import CannotStart
from devstack.keeper.places import Places
from tests.support.processes import with_tag


@pytest.fixture(params=["heard", "ignored"])
def _ends_of_children(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ignored is what a command inherits from some supervisors (`trap '' CHLD` in bash)."""
    before = signal.getsignal(signal.SIGCHLD)
    if request.param == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


def start(places: Places, *command: str, on_wait: Callable[[], None] | None = None) -> None:
    os.mkdir(places.folder, 0o700)
    launch.start(places, "stack.yaml", os.environ, command=command, on_wait=on_wait)


@pytest.mark.usefixtures("_ends_of_children")
def test_a_controller_that_ends_at_once_is_told_with_its_last_words(places: Places) -> None:
    program = "echo 'no such module' >&2; exit 3"

    with pytest.raises(CannotStart, match="it ended with code 3\nno such module") as raised:
        start(places, "/bin/sh", "-c", program)

    assert places.controller_log in raised.value.hint


@pytest.mark.usefixtures("_ends_of_children")
def test_one_that_does_not_answer_is_ended_when_the_wait_is_given_up(places: Places) -> None:
    tag = f"tag-{uuid.uuid4().hex}"

    def give_up() -> None:
        if with_tag(tag):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(places, sys.executable, "-c", "import signal; signal.pause()", tag, on_wait=give_up)
    assert not with_tag(tag)


def test_another_controller_that_says_nothing_is_not_waited_for_without_end(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ANSWER_SECONDS", 0.2)
    tag = f"tag-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as another:

        def come_first() -> None:
            if with_tag(tag):
                another.bind(places.control_socket)
                another.listen()

        with pytest.raises(Silent):
            start(
                places,
                sys.executable,
                "-c",
                "import signal; signal.pause()",
                tag,
                on_wait=come_first,
            )
    assert not with_tag(tag)


def test_a_program_that_is_not_there_is_named(places: Places) -> None:
    with pytest.raises(CannotStart, match=re.escape("No such file or directory: /no/python")):
        start(places, "/no/python")
