"""Which patterns a method can train, known before any work."""

from __future__ import annotations

from typing import Literal

from ws_learner.config import METHODS, WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.patterns.pattern import Pattern
from ws_learner.pruning.patterns.per_layer_nm import PerLayerNM
from ws_learner.pruning.patterns.score_grid import grid_of
from ws_learner.pruning.patterns.slices import Slices

__all__ = ["TrainedBy", "is_trainable", "trained_by"]

TrainedBy = Literal["masks", "n:m", "scores"]
"""`masks` of any pattern; `n:m` masks from the first epochs on; learned `scores`, one per unit."""


def trained_by(config: WeightSparseConfig) -> TrainedBy:
    """How the method of the settings trains patterns."""
    method = METHODS[config.ws_method]
    if method.trains_nm:
        return "n:m"
    return "scores" if method.learns_scores and config.movement_steps != "weights" else "masks"


def is_trainable(pattern: Pattern, shape: tuple[int, ...], *, by: TrainedBy) -> bool:
    """Whether a weight of this shape can be trained under a pattern, given as it is stored."""
    if by == "n:m":
        return isinstance(pattern, NM | PerLayerNM | Slices)
    if by == "scores":
        try:
            grid_of(pattern, shape)
        except UserError:
            return False
    return True
