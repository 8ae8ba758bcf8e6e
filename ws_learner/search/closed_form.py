"""Closed-form allocations, without rollouts: functions from a context to zero counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from envs import FloatArray, IntArray, largest_remainder, project
from ws_learner.config import PROTOCOLS, Loaded
from ws_learner.search.context import AllocationContext

__all__ = [
    "CLOSED_FORM",
    "WEIGHTWISE",
    "ClosedForm",
    "erk",
    "heurist",
    "run_closed_form",
    "uniform",
]

_BISECTIONS = 200


def _fill(direction: FloatArray, context: AllocationContext) -> IntArray:
    """Zeros whose ratios are proportional to `direction`, clipped to the bounds, exact in sum.

    The factor is found by bisection: if a layer reaches a bound, the others take the excess.
    """
    low, high = 0.0, 1.0 / float(direction.min())
    wanted, lower, upper = direction * context.weights, context.lower, context.upper
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if np.clip(middle * wanted, lower, upper).sum() < context.budget:
            low = middle
        else:
            high = middle
    ideal: FloatArray = np.clip(high * wanted, lower, upper)
    return largest_remainder(ideal, context.budget, lower=lower, upper=upper)


def uniform(context: AllocationContext) -> IntArray:
    """(L,) zeros at the same ratio in every layer, as far as the bounds allow."""
    return _fill(np.ones(len(context.layers)), context)


def heurist(context: AllocationContext) -> IntArray:
    """(L,) zeros at ratios proportional to the log of a layer's size.

    PocketFlow's protocol (learners/weight_sparsification/pr_optimizer.py): ratio_i = a ln(n_i)
    with a chosen so that the weighted mean is the target. There a ratio can exceed 1. Here it is
    clipped to the bounds and the other layers take the difference. A layer of one weight counts
    as one of two, since ln(1) = 0.
    """
    return _fill(np.log(np.maximum(context.weights, 2).astype(np.float64)), context)


def erk(context: AllocationContext) -> IntArray:
    """(L,) zeros at densities proportional to (sum of dimensions) / (product of dimensions).

    Erdos-Renyi kernel (Evci et al., "Rigging the Lottery", ICML 2020, section 3): a layer keeps
    weights in proportion to the sum of its shape. A layer that would keep more than it has remains
    dense and the others share the rest, as `project` does for any bound.
    """
    kept = np.array([sum(row.shape) for row in context.layers], np.float64)
    return project(
        context.weights - kept,
        budget=context.budget,
        lower=context.lower,
        upper=context.upper,
        weights=context.weights,
    )


ClosedForm = Callable[[AllocationContext], IntArray]

CLOSED_FORM: Loaded[ClosedForm] = Loaded(PROTOCOLS, "allocate")
"""Protocols that take no rollout, roughly from worst to best."""

WEIGHTWISE = ("uniform", "heurist", "erk", "global", "lamp", "owl")
"""Protocols that rank or count weights, also where the budget is in another unit."""


def run_closed_form(name: str, context: AllocationContext) -> IntArray:
    """(L,) zeros by a protocol that takes no rollout.

    Where the context is restated in units of cost, protocols that rank or count weights run in
    weights.
    """
    if context.restated is not None and context.restated.weightwise and name in WEIGHTWISE:
        return context.restated.weightwise(name)
    return CLOSED_FORM[name](context)
