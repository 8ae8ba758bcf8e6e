"""One-shot pruning by magnitude, without training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ws_learner.pruning.criteria import magnitude
from ws_learner.pruning.layers.layer_plan import build_pattern_plan
from ws_learner.pruning.layers.prunable import parameter_of
from ws_learner.pruning.patterns.group_base import PoolName
from ws_learner.pruning.patterns.pattern import Pattern
from ws_learner.pruning.patterns.scope import Scope

__all__ = ["prune_once"]


@torch.no_grad()
def prune_once(
    model: nn.Module,
    zeros: Mapping[str, int],
    *,
    pattern: Pattern | str | Mapping[str, Pattern | str] = "unstructured",
    pool: PoolName = "mean",
    scope: Scope = "local",
    bounds: tuple[float, float] = (0.0, 1.0),
) -> dict[str, Tensor]:
    """Set the units of smallest magnitude to zero in place, in whole units of a pattern.

    For weights that training does not change, such as frozen ones. Nothing keeps the zeros if
    the weights are trained later: that is what a `Sparsifier` is for.

    Args:
        model: The network.
        zeros: Parameter name -> number of zeros; the nearest count that whole units make.
        pattern: The units, or their spelling, or either for each layer.
        pool: How magnitudes are pooled over a unit.
        scope: `local` gives each layer its own count; `global` takes their sum only.
        bounds: Least and largest ratio of a layer under `global`.

    Returns:
        Parameter name -> bool mask, True = kept.

    Raises:
        UserError: A name or the pattern does not fit the network.
    """
    asked = {name: count for name, count in zeros.items() if count}
    if not asked:
        return {}
    plan = build_pattern_plan(model, asked, pattern=pattern, pool=pool)
    scores = {name: magnitude(parameter_of(model, name)) for name in asked}
    if scope == "global":
        total = sum(asked.values())
        counts = plan.spread_globally(scores, total, least=bounds[0], most=bounds[1])
    else:
        counts = plan.snap(asked)
    masks = plan.masks(scores, counts)
    for name, mask in masks.items():
        parameter_of(model, name).masked_fill_(~mask, 0)
    return masks
