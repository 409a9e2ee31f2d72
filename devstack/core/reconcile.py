"""`reconcile(state, now) -> Plan`: what to do now, why the rest is not done, when to look again.

One rule, one function; the order of `_RULES` is the order of precedence, since at most one op goes out
for each replica and each service's preparation (law 3). Rules read State only; what they set in motion
is recorded as an intent before it runs, so the next round sees it. One round is not enough (stopping
an old replica makes room for the next): the controller asks until a plan has no ops (law 2).
"""

from collections.abc import Callable

from devstack.core.ops import Plan
from devstack.core.rules import ending, filling, gateway, updating, workloads
from devstack.core.rules.draft import Draft
from devstack.core.rules.leaving import leaving
from devstack.core.state import State

__all__ = ["leaving", "reconcile"]


def reconcile(state: State, now: float) -> Plan:
    """Compare what is wanted with what there is; see the module's docstring."""
    draft = Draft(state, now)
    for rule in _RULES:
        rule(state, draft)
    return draft.plan()


_RULES: tuple[Callable[[State, Draft], None], ...] = (
    ending.stop_in_order,
    ending.stop_the_dead,
    updating.give_up_on_updates,
    ending.stop_the_drained,
    ending.retire,
    filling.cancel_preparations,
    filling.prepare,
    filling.fill,
    updating.roll,
    gateway.set_routes,
    gateway.load_gateway,
    workloads.apply_workloads,
    workloads.remove_workloads,
)
