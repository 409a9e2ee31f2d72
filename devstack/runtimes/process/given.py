"""Which variables of an artifact a replica gets, beside those of the stack.

They are above what the shell happens to have and below what is said for this service; a port that
was assigned is never replaced, since the gateway dials it. What the pack itself needs is not told
(it is the same at every start); what the source's own start command sets is, where it meets another.
"""

from collections.abc import Mapping

from devstack.core.env import Variable

_BELOW = ("shell", "injected")


def add_given(
    variables: Mapping[str, Variable], given: Mapping[str, str], packs_own: Mapping[str, str]
) -> tuple[dict[str, Variable], tuple[str, ...]]:
    """The whole environment, and what is to be told."""
    result = dict(variables)
    told: list[str] = []
    for name, value in sorted(given.items()):
        there = variables.get(name)
        is_quiet = there is None or there.value == value or packs_own.get(name) == value
        if there is not None and _is_assigned_port(there):
            if not is_quiet:
                told.append(
                    f"{name}={value} of the start command is left out: {there.value} is assigned"
                )
            continue
        if there is None or there.origin in _BELOW:
            origin = "pack" if packs_own.get(name) == value else "start command"
            overridden = there is not None and there.origin != "shell" and there.value != value
            result[name] = Variable(
                name, value, origin, (there.origin,) if there is not None and overridden else ()
            )
        if there is not None and not is_quiet:
            told.append(
                f"{name} from {there.origin} is overridden: the start command wins"
                if there.origin in _BELOW
                else f"{name} from the start command is overridden: {there.origin} wins"
            )
    return result, tuple(told)


def _is_assigned_port(variable: Variable) -> bool:
    is_port = variable.name == "PORT" or variable.name.startswith("PORT_")
    return is_port and variable.origin == "injected"
