"""Profiles whose ratios are fixed numbers plus one common level, which the budget sets."""

from __future__ import annotations

import numpy as np

from envs import FloatArray, IntArray, largest_remainder
from ws_learner.search.context import AllocationContext

__all__ = ["common_level", "zeros_at_offsets"]

_BISECTIONS = 200


def zeros_at_offsets(
    offsets: FloatArray,
    context: AllocationContext,
    *,
    lower: FloatArray | IntArray | None = None,
    upper: FloatArray | IntArray | None = None,
) -> IntArray:
    """(L,) zeros at ratios `offsets` plus one common level, clipped to the bounds, exact in sum.

    Args:
        offsets: (L,) differences of the layers' ratios.
        context: Budget and bounds.
        lower: (L,) narrower least zeros, need not be whole; between them and `upper` the budget
            must be possible. By default those of the context.
        upper: (L,) narrower most zeros.
    """
    least = context.lower if lower is None else lower
    most = context.upper if upper is None else upper
    level = common_level(offsets, context, lower=least, upper=most)
    ideal: FloatArray = np.clip((offsets + level) * context.weights, least, most)
    return largest_remainder(ideal, context.budget, lower=context.lower, upper=context.upper)


def common_level(
    offsets: FloatArray,
    context: AllocationContext,
    *,
    lower: FloatArray | IntArray,
    upper: FloatArray | IntArray,
) -> float:
    """The level at which clipped ratios meet the budget, found by bisection."""
    low, high = -float(offsets.max()), 1.0 - float(offsets.min())  # all at `lower`, all at `upper`
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        zeros = np.clip((offsets + middle) * context.weights, lower, upper)
        low, high = (middle, high) if zeros.sum() < context.budget else (low, middle)
    return high
