"""What a service without a ready replica waits for: one line for the gateway's page.

The words are those of `status`. They are derived from State alone and never from the time: a table that
is no other than the one in force is not sent to NGINX, so what only passes by must not change it. A
service that is tried again and again says one thing from its first failure to the crash loop.
"""

from devstack.core.blame import summary
from devstack.core.env import without_passwords
from devstack.core.events import Slot
from devstack.core.rules.starting import missing_dependency
from devstack.core.state import State
from devstack.core.view import Word, ended_for_good, sentence, service_word

MOST_LETTERS = 200
_ANY_TIME = 0.0
"""Time tells apart what is the same here: backing off, and waiting to be started again."""


def waiting_text(state: State, name: str) -> str:
    """`orders is waiting for orders-db (ready)`; never more than one line, nor a password."""
    word, reason = _word_and_reason(state, name)
    line = without_passwords(sentence(name, word, reason).partition("\n")[0].strip())
    return line if len(line) <= MOST_LETTERS else f"{line[: MOST_LETTERS - 1]}…"


def _word_and_reason(state: State, name: str) -> tuple[Word, str]:
    service = state.definition(name)
    assert service is not None, f"there is no service {name}"
    if state.closing:
        return Word.STOPPING, ""
    if state.wanted_count(name) == 0:
        return Word.STOPPED, ""
    word = service_word(state, name, _ANY_TIME)
    known = state.of(name)
    if word in (Word.PREPARING, Word.DONE):
        return word, ""
    if word is Word.UNKNOWN:
        return word, state.lost_runtimes[service.runtime]
    failed = _failed_slots(state, name)
    if word is Word.FAILED:
        error = known.prepare_error
        if error is not None and error[0] == state.wanted_revision(name):
            return word, error[1]
        return word, next(
            (slot.newest.blocked for slot in failed if slot.newest.blocked),
            ended_for_good(state, name) or known.workload.error,
        )
    missing = missing_dependency(state, service)
    if missing is not None and not any(r.is_current for r in state.replicas_of(name)):
        return Word.WAITING, f"waiting for {missing}"
    last = next((summary(slot.last_exit) for slot in failed if slot.last_exit is not None), "")
    if word is Word.CRASH_LOOP:
        return word, last
    return Word.STARTING, f"the last replica {last}" if last else ""


def _failed_slots(state: State, name: str) -> list[Slot]:
    slots = (state.of(name).slot(index) for index in range(1, state.wanted_count(name) + 1))
    return [slot for slot in slots if slot.newest.failures or slot.newest.blocked]
