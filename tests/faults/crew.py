"""The processes that look after a stack, as a test kills them: controller, keeper, warden."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devstack.keeper import processes
from devstack.keeper.marks import runs_in
from tests.support.stacks import StackUnderTest, stack_in

Identity = tuple[int, int]
"""Pid and start time."""


@dataclass(frozen=True, slots=True)
class Crew:
    """Who looks after a stack at one moment, and every process that there is of it."""

    controller: Identity
    keeper: Identity
    warden: Identity
    run_id: str
    all: Mapping[Identity, str]
    """With their names."""

    def kill(self, *who: str) -> float:
        """Kill -9 at once; the moment of it."""
        moment = time.monotonic()
        if len(who) > 1:
            self.freeze("keeper")  # so that it starts no controller between two of them
        self._signal(who, signal.SIGKILL)
        if len(who) > 1 and "keeper" not in who:
            self._signal(("keeper",), signal.SIGCONT)
        return moment

    def kill_everybody(self) -> None:
        """All three, of whom none sees another go; the rest dies with them, but for daemons."""
        everybody = ("controller", "keeper", "warden")
        self.freeze(*everybody)
        self.kill(*everybody)

    def freeze(self, *who: str) -> None:
        """Stop them, so that none notices that another is killed before it is killed itself."""
        self._signal(who, signal.SIGSTOP)

    def _signal(self, who: tuple[str, ...], number: signal.Signals) -> None:
        for name in who:
            identity: Identity = getattr(self, name)
            os.kill(identity[0], number)

    def alive(self, spared: Iterable[Identity] = ()) -> list[str]:
        """Those of all processes that still live."""
        gone = set(spared)
        return [
            f"{name}[{identity[0]}]"
            for identity, name in self.all.items()
            if identity not in gone and processes.is_running(identity)
        ]

    def dead(self) -> list[str]:
        """The names of those that do not live any more."""
        return [n for identity, n in self.all.items() if not processes.is_running(identity)]


def crew_of(stack: StackUnderTest) -> Crew:
    """Who looks after a running stack now."""
    lock = Path(stack.places.controller_lock).read_text()
    controller = identity_of(int(lock))
    run = next(
        run for run in reversed(runs_in(stack.places.folder)) if processes.is_running(run.keeper)
    )
    table = processes.everything()
    roots = (controller[0], run.keeper[0], run.warden[0])
    every = {(p.pid, p.start): p.name for p in processes.tree(table, roots) if p.is_alive}
    return Crew(controller, run.keeper, run.warden, run.run_id, every)


def crew_if_there(stack: StackUnderTest) -> Crew | None:
    """As `crew_of`; None while the controller or the keeper is gone or on its way."""
    try:
        return crew_of(stack)
    except (FileNotFoundError, StopIteration, ValueError):
        return None


def identity_of(pid: int) -> Identity:
    return (pid, processes.start_of(pid))


def assert_gone(stack: StackUnderTest, crew: Crew, since: float, within: float = 2.0) -> float:
    """Nothing of a killed run is left `within` seconds of the kill; how long it took."""
    while True:
        passed = time.monotonic() - since  # before the look, which takes long on a busy machine
        left = crew.alive() + [str(found) for found in stack.left()]
        if not left:
            return passed
        assert passed < within, f"left after {passed:.2f} s: {', '.join(left)}"
        time.sleep(0.01)


@contextmanager
def cautious(folder: Path, **extra: str) -> Iterator[StackUnderTest]:
    """As `stack_in`; what a failed test leaves is killed by pid, so that it harms no other."""
    stack: StackUnderTest | None = None
    try:
        with stack_in(folder, **extra) as stack:
            yield stack
    finally:
        for found in stack.left() if stack is not None else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
