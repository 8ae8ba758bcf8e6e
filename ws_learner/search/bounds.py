"""Bounds on the zeros of each layer."""

from __future__ import annotations

import numpy as np

from envs import IntArray, LayerRow, count_bounds
from ws_learner.config import NAMED_RATIOS, WeightSparseConfig
from ws_learner.core import UserError, say
from ws_learner.pruning import PatternPlan
from ws_learner.search.layer_limits import general_bounds, layer_limits

__all__ = ["bounds_alone", "layer_bounds"]


def layer_bounds(
    layers: tuple[LayerRow, ...], config: WeightSparseConfig, plan: PatternPlan | None = None
) -> tuple[IntArray, IntArray]:
    """Return (L,) least and (L,) most zeros of each layer.

    Both are 0 for exempt layers. A layer that the forward pass does not use keeps the ratio of all
    others together, since nothing can be measured there. A target of 1 prunes everything,
    regardless of the general bounds. Bounds of single layers are those of `layer_limits`.

    Args:
        layers: The layer table.
        config: Target and bounds.
        plan: Whole units of the pattern, to which the bounds of single layers are narrowed.

    Raises:
        UserError: The bounds do not allow the target.
    """
    weights = np.array([row.weights for row in layers], dtype=np.int64)
    target = config.ws_prune_ratio
    if target == 1.0:
        say("`ws_prune_ratio` 1.0: every weight is pruned; only biases remain")
    lower, upper = bounds_alone(layers, config, plan)
    budget, total = round(target * int(weights.sum())), int(weights.sum())
    lower, upper = _held(layers, lower, upper, budget=budget)
    held = sum(row.least for row in layers)
    if budget < held:
        raise UserError(
            f"`ws_prune_ratio` {target}: {held / total:.4f} of the weights are zero already and "
            "stay so; raise it, or set `ws_keep_zeros` False, which trains them"
        )
    if not lower.sum() <= budget <= upper.sum():
        raise UserError(
            f"`ws_prune_ratio` {target}: the layers' bounds and the pattern "
            f"{config.pattern_spelling} allow "
            f"{lower.sum() / total:.4f} to {upper.sum() / total:.4f}{_dense(layers)}; change it, "
            f"`ws_ratio_min`, `ws_ratio_max`{_set(layers, config)} or `ws_exempt`"
        )
    return lower, upper


def bounds_alone(
    layers: tuple[LayerRow, ...], config: WeightSparseConfig, plan: PatternPlan | None = None
) -> tuple[IntArray, IntArray]:
    """(L,) least and (L,) most zeros of each layer, whatever the target; see `layer_bounds`.

    Raises:
        UserError: Bounds of single layers cross, or fit no layer.
    """
    weights = np.array([row.weights for row in layers], dtype=np.int64)
    exempt = np.array([row.exempt for row in layers])
    lower, upper = count_bounds(*general_bounds(config), weights)
    limits = layer_limits(layers, config, plan)
    for place, row in enumerate(layers):
        lower[place], upper[place] = limits.get(row.name, (lower[place], upper[place]))
    lower[exempt] = upper[exempt] = 0
    upper = np.minimum(upper, [row.weights if row.most is None else row.most for row in layers])
    return np.minimum(lower, upper), upper


def _set(layers: tuple[LayerRow, ...], config: WeightSparseConfig) -> str:
    """The settings with bounds of single layers that are in use."""
    names = [name for name in NAMED_RATIOS if config.named_ratios(name)]
    if any(row.least for row in layers):
        names.append("ws_keep_zeros")
    return "".join(f", `{name}`" for name in names)


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
