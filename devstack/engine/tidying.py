"""Frees what earlier revisions left on disk, once nothing runs from it or would be started from it."""

import contextlib
from collections.abc import Mapping

from devstack.core.state import State
from devstack.engine.controller import Controller
from devstack.runtimes.process.sources import SourcePrograms


def revisions_in_use(state: State) -> Mapping[str, frozenset[str]]:
    """Of each service: what runs, what slots are filled with, what stands in for it, what is made.

    Without services of which nothing was prepared yet: what an earlier run made for them may be
    just what they will need. None at all while the stack is closing.
    """
    if state.closing:
        return {}
    used: dict[str, set[str]] = {}
    for name, known in state.services.items():
        if known.desired is not None:
            revisions = (known.desired, known.good, known.preparing)
            used[name] = {revision for revision in revisions if revision is not None}
    for replica in state.replicas.values():
        if replica.service in used:
            used[replica.service].add(replica.revision)
    return {name: frozenset(revisions) for name, revisions in used.items()}


async def discard_unused(controller: Controller, sources: SourcePrograms) -> None:
    """For ever: whenever other revisions are in use than before, let go of the rest."""
    done: Mapping[str, frozenset[str]] = {}

    def is_due(state: State) -> bool:
        return not sources.is_preparing and revisions_in_use(state) not in ({}, done)

    while True:
        state = await controller.until(is_due)
        done = revisions_in_use(state)
        with contextlib.suppress(OSError):  # tried again with the next revision
            await sources.discard_unused(done)
