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

    Both are 0 for exempt layers. A layer that the forward pass does not use keeps the ratio of all
    others together, since nothing can be measured there. A target of 1 prunes everything,
    regardless of the bounds.

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
    lower, upper = _held(layers, lower, upper, budget=budget)
    if not lower.sum() <= budget <= upper.sum():
        raise UserError(
            f"`ws_prune_ratio` {target}: the layers' bounds and the pattern "
            f"{config.pattern_spelling} allow "
            f"{lower.sum() / total:.4f} to {upper.sum() / total:.4f}{_dense(layers)}; change it, "
            "`ws_ratio_min`, `ws_ratio_max` or `ws_exempt`"
        )
    return lower, upper


def _held(
    layers: tuple[LayerRow, ...], lower: IntArray, upper: IntArray, *, budget: int
) -> tuple[IntArray, IntArray]:
    """The bounds with layers held at the common ratio that the forward pass does not use."""
    unused = np.array([not row.macs and not row.exempt for row in layers])
    open_ = sum(row.weights for row in layers if not row.exempt)
    if not unused.any() or not open_:
        return lower, upper
    share = budget / open_
    same = np.array([round(share * row.weights) for row in layers], dtype=np.int64)
    kept = np.where(unused, np.clip(same, lower, upper), lower)
    most = np.where(unused, kept, upper)
    return (kept, most) if kept.sum() <= budget <= most.sum() else (lower, upper)


def _dense(layers: tuple[LayerRow, ...]) -> str:
    """What the exempt layers are, to follow a complaint."""
    exempt = [row for row in layers if row.exempt]
    if not exempt:
        return ""
    share = sum(row.weights for row in exempt) / sum(row.weights for row in layers)
    return f" ({share:.4f} of the weights are exempt, first {exempt[0].name})"
