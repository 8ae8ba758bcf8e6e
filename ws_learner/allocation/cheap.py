"""Allocations that cost nothing: one ratio for all layers, or more for larger ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from envs.budget import check_feasible, largest_remainder
from envs.problem import FloatArray, IntArray

__all__ = ["CHEAP", "Cheap", "heurist", "uniform"]

_BISECTIONS = 200


def _fill(
    direction: FloatArray, *, budget: int, lower: IntArray, upper: IntArray, weights: IntArray
) -> IntArray:
    """Zeros whose ratios are proportional to `direction`, clipped to the bounds, exact in sum.

    The factor is found by bisection: where a layer meets a bound, the others take the excess.
    """
    check_feasible(budget, lower=lower, upper=upper, weights=weights)
    low, high = 0.0, 1.0 / float(direction.min())

    def zeros(factor: float) -> FloatArray:
        clipped: FloatArray = np.clip(factor * direction * weights, lower, upper)
        return clipped

    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if zeros(middle).sum() < budget:
            low = middle
        else:
            high = middle
    return largest_remainder(zeros(high), budget, lower=lower, upper=upper)


def uniform(*, budget: int, lower: IntArray, upper: IntArray, weights: IntArray) -> IntArray:
    """(L,) zeros at the same ratio in every layer, as far as the bounds allow."""
    ones = np.ones(len(weights))
    return _fill(ones, budget=budget, lower=lower, upper=upper, weights=weights)


def heurist(*, budget: int, lower: IntArray, upper: IntArray, weights: IntArray) -> IntArray:
    """(L,) zeros at ratios proportional to the log of a layer's size.

    PocketFlow's protocol (learners/weight_sparsification/pr_optimizer.py): ratio_i = a ln(n_i)
    with a chosen so that the weighted mean is the target. There a ratio can exceed 1; here it is
    clipped to the bounds and the other layers take what is missing. A layer of one weight counts
    as one of two, since ln(1) = 0.
    """
    logs = np.log(np.maximum(weights, 2).astype(np.float64))
    return _fill(logs, budget=budget, lower=lower, upper=upper, weights=weights)


Cheap = Callable[..., IntArray]

CHEAP: dict[str, Cheap] = {"uniform": uniform, "heurist": heurist}
"""Protocols that need nothing but the layer table."""
