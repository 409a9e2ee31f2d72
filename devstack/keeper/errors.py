"""What goes wrong between a controller and its keeper, as exceptions; and which one an answer means."""

import errno
from collections.abc import Mapping

from devstack import __version__
from devstack.keeper import protocol
from devstack.keeper.refusals import Stage, explain_failure
from devstack.keeper.requests import SpawnSpec


class KeeperUnreachable(Exception):
    """No keeper answers at its socket, or it went away before it answered."""


class ProtocolMismatch(Exception):
    """The keeper that runs speaks another protocol: `devstack down` ends it."""

    def __init__(self, theirs: int, version: str) -> None:
        super().__init__(
            f"cannot talk to the running keeper: it speaks protocol {theirs} (devstack {version}),"
            f" this is protocol {protocol.PROTOCOL} (devstack {__version__})"
        )
        self.theirs = theirs
        self.version = version


class KeeperRefused(Exception):
    """A request that the keeper understood and did not do."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        """unknown, known, foreign, signal, greeting, ending, invalid"""


class SpawnError(Exception):
    """A program could not be started; `permanent` when trying again cannot help."""

    def __init__(
        self, message: str, hint: str, *, stage: Stage, errno: int, path: str, permanent: bool
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.stage = stage
        self.errno = errno
        self.path = path
        self.permanent = permanent


def raise_refusal(answer: Mapping[str, object]) -> None:
    """Raise `KeeperRefused` for an answer that says so."""
    if answer.get("ok") is True:
        return
    error = answer.get("error")
    assert isinstance(error, dict)
    raise KeeperRefused(str(error.get("kind")), str(error.get("message", error)))


def raise_spawn_error(answer: Mapping[str, object], spec: SpawnSpec) -> None:
    """Raise `SpawnError` in a person's words, or `KeeperRefused`, for an answer that says so."""
    error = answer.get("error")
    if not isinstance(error, dict) or error.get("kind") != "spawn":
        raise_refusal(answer)
        return
    stage, number, path = str(error["stage"]), int(error["errno"]), str(error["path"])
    told = explain_failure(stage, number or errno.EINVAL, path, spec.argv[0], spec.env.get("PATH"))
    raise SpawnError(
        told.message,
        told.hint,
        stage=told.stage,
        errno=number,
        path=told.path,
        permanent=told.is_permanent,
    )
