"""A check of a trained network: the zeros of each layer are whole units of its pattern."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ws_learner.pruning.layers.layer_plan import build_pattern_plan
from ws_learner.pruning.layers.prunable import parameter_of
from ws_learner.pruning.patterns.pattern import Pattern
from ws_learner.pruning.patterns.whole_units import zeros_in_units

__all__ = ["check_whole_units"]


def check_whole_units(
    model: nn.Module,
    zeros: Mapping[str, int],
    *,
    pattern: Pattern | str | Mapping[str, Pattern | str],
) -> None:
    """Check that each layer has its zeros, in whole units of its pattern.

    Args:
        model: The trained network.
        zeros: Planned number of zeros, by parameter name.
        pattern: One for all layers, or parameter name -> pattern.

    Raises:
        RuntimeError: A layer has fewer.
    """
    pruned = {name: count for name, count in zeros.items() if count}
    plan = build_pattern_plan(model, pruned, pattern=pattern)
    for name, count in pruned.items():
        found = zeros_in_units(plan.patterns[name], parameter_of(model, name), count)
        if found < count:
            raise RuntimeError(
                f"{name}: {found} zeros in whole units of {plan.patterns[name]}, {count} planned"
            )
