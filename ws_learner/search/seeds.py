"""Profiles that every search scores first, computed without a rollout."""

from __future__ import annotations

from functools import partial

from envs import IntArray, OwnCurves
from ws_learner.config import PROTOCOLS
from ws_learner.search.closed_form import WEIGHTWISE, run_closed_form
from ws_learner.search.context import AllocationContext
from ws_learner.search.least_divergence import summed_divergence

__all__ = ["closed_form_profiles", "seed_profiles"]

_FEWEST = 3
_TOLERATED = 1.5


def closed_form_profiles(context: AllocationContext) -> dict[str, IntArray]:
    """The profile of each protocol that takes no rollout and can start a search, by name."""
    names = [name for name, protocol in PROTOCOLS.items() if protocol.starts_search]
    if context.restated is not None and context.restated.weightwise is None:
        names = [name for name in names if name not in WEIGHTWISE]
    if context.own() is None:
        names = [name for name in names if name != "divergence"]
    return {name: run_closed_form(name, context) for name in reversed(names)}


def seed_profiles(
    context: AllocationContext, found: dict[str, IntArray] | None = None
) -> dict[str, IntArray]:
    """Closed-form profiles by protocol, the most promising first; equal ones once.

    With the layers' own divergences known, they are ordered by the sum of those at the profile as
    scored. Profiles whose sum exceeds the least by half are left out, but for the first three.

    Args:
        context: Budget and bounds.
        found: The `closed_form_profiles`, if they are there.
    """
    found = closed_form_profiles(context) if found is None else found
    measured = context.own()
    if measured is None:
        return found
    densities, values = measured
    predicted = partial(summed_divergence, context, OwnCurves(densities, values, context.weights))
    distinct = {zeros.tobytes(): name for name, zeros in reversed(found.items())}
    order = sorted(distinct.values(), key=lambda name: predicted(found[name]))
    limit = _TOLERATED * predicted(found[order[0]])
    return {
        name: found[name]
        for place, name in enumerate(order)
        if place < _FEWEST or predicted(found[name]) <= limit
    }
