"""`devstack why SERVICE`: what it is, what it waits for, what its last replicas said, what happened."""

import time
from collections.abc import Iterable

from devstack.core.ops import Plan
from devstack.core.state import State
from devstack.core.tell import Line
from devstack.core.view import sentence, service_view, service_word

MOST_LINES = 10
"""Of what happened to a service."""


def explain(state: State, plan: Plan, name: str, now: float) -> tuple[str, ...]:
    """Lines from the most telling to the details."""
    view = service_view(state, plan, name, now)
    lines = [sentence(name, view.word, view.reason)]
    lines += _holds(state, plan, name, now)
    for replica in view.replicas:
        how = "ready" if replica.ready else replica.reason or replica.phase.value
        draining = ", draining" if replica.draining else ""
        lines.append(
            f"{replica.id}: {how}{draining}" + (f" (pid {replica.pid})" if replica.pid else "")
        )
    definition = view.definition
    for dependency in definition.depends_on:
        if not state.satisfies(dependency.service, dependency.condition):
            word = service_word(state, dependency.service, now)
            lines.append(f"needs {dependency.service} ({dependency.condition}), which is {word}")
    for index, slot in sorted(state.of(name).slots.items()):
        if slot.last_exit is None or not slot.newest.failures:
            continue
        times = "once" if slot.newest.failures == 1 else f"{slot.newest.failures} times in a row"
        lines.append(f"{name}.{index} failed {times}; the last one {slot.last_exit}")
        lines += [f"  | {line}" for line in slot.last_exit.tail]
    lines += [f"warning: {warning}" for warning in view.warnings]
    artifact = state.of(name).artifact
    lines += [f"note: {note}" for note in (artifact.notes if artifact is not None else ())]
    return tuple(lines)


def lately(history: Iterable[tuple[float, Line]], name: str) -> tuple[str, ...]:
    """The newest lines of a service out of (Unix time, line); earlier controllers' are among them."""
    told = [(at, line.text) for at, line in history if line.service == name][-MOST_LINES:]
    if not told:
        return ()
    clock = [time.strftime("%H:%M:%S", time.localtime(at)) for at, _ in told]
    texts = [text.partition("\n")[0] for _, text in told]
    return ("what happened:", *(f"  {at}  {text}" for at, text in zip(clock, texts, strict=True)))


def _holds(state: State, plan: Plan, name: str, now: float) -> list[str]:
    del state
    found = []
    for hold in plan.holds:
        if hold.service != name:
            continue
        slot = f"slot {hold.slot}: " if hold.slot is not None else ""
        again = f" (tried again in {max(0.0, hold.until - now):.1f} s)" if hold.until else ""
        found.append(f"{slot}{hold.reason}{again}")
    return found
