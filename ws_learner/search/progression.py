"""Ratios in arithmetic progression over depth."""

from __future__ import annotations

from functools import partial

import numpy as np

from envs import IntArray, OwnCurves, as_scored, error_at
from ws_learner.search.context import AllocationContext
from ws_learner.search.least_divergence import summed_divergence
from ws_learner.search.levels import zeros_at_offsets

__all__ = ["SLOPES", "progression", "progression_at"]

SLOPES = (0.0, 0.1, -0.1, 0.2, -0.2, 0.3, -0.3, 0.4, -0.4)
"""Ratio of the last layer minus that of the first; of equally good ones the earlier is taken."""


def progression(context: AllocationContext) -> IntArray:
    """(L,) zeros at ratios that rise or fall by equal steps from layer to layer.

    One number sets all ratios, as in Huang et al., "Determining layer-wise sparsity for large
    language models through a theoretical perspective", ICML 2025. The paper lets ratios rise only,
    and finds the step by a few trials of the pruned network. Here it is the one of `SLOPES` with
    the least sum of the layers' own divergences, or of the errors of their outputs if what the
    network's outputs mean is not known, both at the profile as it would be scored.
    """
    measured = context.own()
    if measured is None:
        cost = partial(_summed_error, context)
    else:
        cost = partial(summed_divergence, context, OwnCurves(*measured, context.weights))
    return min((progression_at(context, slope) for slope in SLOPES), key=cost)


def _summed_error(context: AllocationContext, zeros: IntArray) -> float:
    ratios, curves = context.curves()
    scored = as_scored(zeros, context.weights, power=context.score_power)
    layers = zip(scored, context.weights.tolist(), curves, strict=True)
    return sum(
        float(error_at(count, weights=size, ratios=ratios, errors=curve))
        for count, size, curve in layers
    )


def progression_at(context: AllocationContext, slope: float) -> IntArray:
    """(L,) zeros of the progression whose last ratio is `slope` above its first.

    Layers with one possible count are left out of the order, the others are clipped to their
    bounds, and the level of the progression meets the budget.
    """
    open_ = context.lower < context.upper
    offsets = np.zeros(len(open_))
    count = int(open_.sum())
    offsets[open_] = np.linspace(-slope / 2, slope / 2, count) if count > 1 else 0.0
    return zeros_at_offsets(offsets, context)
