"""Counts zeros that are whole units of a pattern, as a finished network must have them."""

from __future__ import annotations

from torch import Tensor

from ws_learner.pruning.patterns.laid_out import LaidOut
from ws_learner.pruning.patterns.pattern import Pattern
from ws_learner.pruning.patterns.per_layer_nm import PerLayerNM

__all__ = ["zeros_in_units"]


def zeros_in_units(pattern: Pattern, weight: Tensor, zeros: int) -> int:
    """Weights that are zero in units of the pattern which are zero as a whole.

    Args:
        pattern: Of the weight as it is stored.
        weight: The weight.
        zeros: Planned number of zeros, which says the N of a pattern such as `n:4`.

    Raises:
        ValueError: The pattern cannot make that many.
    """
    if isinstance(pattern, LaidOut):
        return zeros_in_units(pattern.pattern, pattern.layout.rows(weight), zeros)
    shape = tuple(weight.shape)
    if isinstance(pattern, PerLayerNM):
        n = pattern.n_of(shape, zeros)
        return zeros_in_units(pattern.at(n), weight, zeros) if n < pattern.m else 0
    empty = pattern.pooled(weight.detach().abs(), "max") == 0
    return int(pattern.sizes(shape).to(empty.device)[empty].sum())
