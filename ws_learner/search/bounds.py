"""Bounds on the zeros of each layer."""

from __future__ import annotations

import numpy as np

from envs import IntArray, LayerRow, count_bounds
from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError, say

__all__ = ["layer_bounds"]


def layer_bounds(
    layers: tuple[LayerRow, ...], config: WeightSparseConfig
) -> tuple[IntArray, IntArray]:
    """Return (L,) least and (L,) most zeros of each layer.

    Both are 0 for exempt layers. A target of 1 prunes everything, regardless of the bounds.

    Raises:
        UserError: The bounds do not allow the target.
    """
    weights = np.array([row.weights for row in layers], dtype=np.int64)
    exempt = np.array([row.exempt for row in layers])
    target = config.ws_prune_ratio
    low, high = config.ws_ratio_min, config.ws_ratio_max
    if target == 1.0:
        say("`ws_prune_ratio` 1.0: every weight is pruned; only biases remain")
        low = high = 1.0
    elif target == 0.0:
        low = high = 0.0
    elif config.ws_ratio_bounds == "pocketflow":
        low, high = max(0.0, 1 - 3 * (1 - target)), 1 - (1 - target) / 3
    lower, upper = count_bounds(low, high, weights)
    lower[exempt] = upper[exempt] = 0
    upper = np.minimum(upper, [row.weights if row.most is None else row.most for row in layers])
    lower = np.minimum(lower, upper)
    budget, total = round(target * int(weights.sum())), int(weights.sum())
    if not lower.sum() <= budget <= upper.sum():
        raise UserError(
            f"`ws_prune_ratio` {target}: the layers' bounds and the pattern "
            f"{config.pattern_spelling} allow "
            f"{lower.sum() / total:.4f} to {upper.sum() / total:.4f}; change it, "
            "`ws_ratio_min`, `ws_ratio_max` or `ws_exempt`"
        )
    return lower, upper
