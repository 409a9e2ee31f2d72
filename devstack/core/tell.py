"""What happened, as one line for people: for `up`, `why` and what is kept of it.

Not every event is worth a line; those that are use the words of `status`.
"""

from dataclasses import dataclass
from enum import StrEnum

from devstack.core import events as e
from devstack.core.model import GATEWAY
from devstack.core.state import State


class Tone(StrEnum):
    """How a line is meant; for colour only."""

    INFO = "info"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of what happened."""

    service: str | None
    text: str
    tone: Tone = Tone.INFO


def tell(before: State, event: e.Event, after: State) -> Line | None:  # noqa: C901 - a table
    """The line for an event; `before` and `after` are the States around it."""
    match event:
        case e.PrepareStarted(service=service):
            return Line(service, "preparing")
        case e.PrepareSucceeded(service=service) if after.of(service).desired == event.revision:
            return Line(service, "prepared")
        case e.PrepareFailed(service=service, message=message):
            return Line(service, message, Tone.BAD)
        case e.PrepareCancelRequested(service=service, cause=cause):
            return Line(service, f"preparation stops: {cause}")
        case e.ReplicaStartFailed(replica=replica, message=message):
            known = _is_last_failure(before, event)
            return None if known else Line(_service(before, replica), message, Tone.BAD)
        case e.ReplicaSpawned(replica=replica):
            return Line(_service(after, replica), f"{replica} started")
        case e.ReplicaAdopted(replica=replica, service=service):
            return Line(service, f"{replica} adopted")
        case e.ReadinessChanged():
            return _readiness(before, event)
        case e.LivenessFailed(replica=replica, reason=reason):
            return Line(_service(before, replica), f"{replica} is not alive: {reason}", Tone.BAD)
        case e.ReplicaWarned(replica=replica, message=message):
            return _warning(before, _service(before, replica), message)
        case e.ReplicaStopRequested(replica=replica, cause=cause):
            tone = Tone.BAD if event.is_failure else Tone.INFO
            return Line(_service(before, replica), f"{replica} stops: {cause}", tone)
        case e.ReplicaExited():
            return _exit(before, event)
        case e.RoutesFailed(message=message) if message != before.gateway.routes_error:
            return Line(GATEWAY, message, Tone.BAD)
        case e.GatewayLoadFailed(message=message) if message != _load_error(before):
            return Line(GATEWAY, message, Tone.BAD)
        case e.RuntimeLost(runtime=runtime, reason=reason):
            return Line(None, f"{runtime} runtime: {reason}", Tone.BAD)
        case e.RuntimeFound(runtime=runtime):
            return Line(None, f"{runtime} runtime answers again", Tone.GOOD)
        case e.ScaleRequested(service=service, replicas=replicas):
            wanted = "as the file says" if replicas is None else str(replicas)
            return Line(service, f"scale to {wanted}")
        case e.RestartRequested(service=service):
            return Line(service, "restart requested")
        case e.StopRequested(service=service):
            return Line(service, "stop requested")
        case e.StartRequested(service=service):
            return Line(service, "start requested")
        case e.SourceChanged(service=service):
            return Line(service, "source changed")
        case e.Noted(service=service, text=text):
            return _warning(before, service, text)
        case e.DownRequested(cause=cause):
            return Line(None, f"stopping: {cause}")
    return None


def _warning(before: State, service: str | None, text: str) -> Line | None:
    is_known = service is not None and text in before.of(service).warnings
    return None if is_known else Line(service, text)


def _is_last_failure(before: State, event: e.ReplicaStartFailed) -> bool:
    """Whether the slot was tried in vain for the same reason just before, and nobody asked since."""
    replica = before.replicas.get(event.replica)
    if replica is None or replica.slot is None:
        return False
    slot = before.of(replica.service).slot(replica.slot)
    last = slot.last_exit.message if slot.last_exit is not None else ""
    return bool(slot.attempts(replica.revision).failures) and last == event.message


def _load_error(before: State) -> str:
    error = before.gateway.load_error
    return error[1] if error is not None else ""


def _service(state: State, replica: str) -> str | None:
    found = state.replicas.get(replica)
    return found.service if found is not None else None


def _readiness(before: State, event: e.ReadinessChanged) -> Line | None:
    replica = before.replicas.get(event.replica)
    if replica is None or replica.ready == event.ready:
        return None
    if event.ready:
        return Line(replica.service, f"{replica.id} is ready", Tone.GOOD)
    return Line(replica.service, f"{replica.id} is not ready: {event.reason}", Tone.BAD)


def _exit(before: State, event: e.ReplicaExited) -> Line | None:
    replica = before.replicas.get(event.replica)
    if replica is None:
        return None
    service = before.definition(replica.service)
    if replica.stop_cause and not replica.stop_is_failure:
        return Line(replica.service, f"{replica.id} stopped")
    if service is not None and service.is_job and event.exit.is_success:
        return Line(replica.service, f"{replica.id} is done", Tone.GOOD)
    return Line(replica.service, f"{replica.id} {event.exit}", Tone.BAD)
