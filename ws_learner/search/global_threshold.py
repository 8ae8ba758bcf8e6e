"""Allocations by a global threshold: on magnitudes or LAMP scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs import FloatArray, IntArray
from ws_learner.search.context import AllocationContext

__all__ = ["global_magnitude", "lamp", "lamp_scores"]


def global_magnitude(context: AllocationContext) -> IntArray:
    """(L,) zeros when the smallest weights of the whole network are pruned."""
    return _threshold([np.sort(weights) for weights in context.magnitudes()], context)


def lamp(context: AllocationContext) -> IntArray:
    """(L,) zeros when the weights with the smallest LAMP scores are pruned.

    Layer-adaptive magnitude pruning (Lee et al., ICLR 2021, equation 4), see `lamp_scores`.
    """
    return _threshold([lamp_scores(weights) for weights in context.magnitudes()], context)


def lamp_scores(magnitudes: FloatArray) -> FloatArray:
    """(n,) ascending LAMP scores of a layer's weights.

    A weight's score is its square over the sum of squares of all weights of the layer that are
    not smaller (of equal ones, those that come later in a stable sort). The largest weight of
    every layer scores 1, so that no layer is emptied before all of them are. All-zero layers
    score 0.

    Args:
        magnitudes: (n,) absolute weights, in any order.
    """
    squares = np.sort(magnitudes) ** 2
    rest = np.cumsum(squares[::-1])[::-1]
    return np.divide(squares, rest, out=np.zeros_like(squares), where=rest > 0)


def _threshold(scores: Sequence[FloatArray], context: AllocationContext) -> IntArray:
    """(L,) number of scores of each layer among the smallest, within the bounds.

    A layer's first `lower` scores are always pruned, those after `upper` never. Weights at the
    threshold are pruned in forward order until the budget is met.

    Args:
        scores: Ascending scores of each layer.
        context: Budget and bounds.
    """
    bounds = list(zip(context.lower.tolist(), context.upper.tolist(), strict=True))
    open_ = [layer[least:most] for layer, (least, most) in zip(scores, bounds, strict=True)]
    left = context.budget - int(context.lower.sum())
    if left == 0:
        return context.lower.copy()
    threshold = np.partition(np.concatenate(open_), left - 1)[left - 1]
    below = np.array([np.searchsorted(layer, threshold, "left") for layer in open_])
    ties = np.array([np.searchsorted(layer, threshold, "right") for layer in open_]) - below
    before = np.cumsum(ties) - ties
    dealt = np.clip(left - below.sum() - before, 0, ties)
    zeros: IntArray = context.lower + below + dealt
    return zeros
