"""Group lasso: a penalty that drives whole units to zero while the sparsity rises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.pruning.functional import add_group_lasso
from ws_learner.pruning.methods.fresh_gradients import FreshGradients
from ws_learner.pruning.methods.gradual import GradualConfig, GradualPruning
from ws_learner.pruning.patterns.model_plan import PatternPlan
from ws_learner.pruning.schedules.polynomial import Schedule

__all__ = ["GroupLasso", "GroupLassoConfig"]


@dataclass(frozen=True, kw_only=True)
class GroupLassoConfig(GradualConfig):
    """Settings of gradual pruning, and the strength of the penalty.

    Attributes:
        alpha: Factor of the penalty alpha x (sum of the units' Euclidean norms), 0 or above; 0.006
            is what LPOT's examples have.
    """

    alpha: float = 0.006

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < math.inf:
            raise UserError(f"`GroupLassoConfig.alpha` {self.alpha}: must be 0 or above")

    @classmethod
    def own_settings(cls, config: WeightSparseConfig) -> dict[str, Any]:
        """See `GradualConfig.own_settings`."""
        return {"alpha": config.group_lasso_alpha}

    def _method(
        self,
        weights: Mapping[str, nn.Parameter],
        *,
        zeros: Mapping[str, int],
        schedule: Schedule,
        plan: PatternPlan,
    ) -> GroupLasso:
        return GroupLasso(self, weights, zeros=zeros, schedule=schedule, plan=plan)


class GroupLasso(GradualPruning):
    """Gradual pruning with the sub-gradient alpha w / ||w_unit|| added before every step.

    Yuan & Lin 2006 without the factor for the size of a group, as in LPOT; where all weights of a
    unit are zero the sub-gradient is zero. The units are those of the pattern, LPOT's `pattern`
    inside `parameters` included, which it never read.
    """

    _config: GroupLassoConfig
    adds_terms = True

    def __init__(
        self,
        config: GroupLassoConfig,
        weights: Mapping[str, nn.Parameter],
        *,
        zeros: Mapping[str, int],
        schedule: Schedule,
        plan: PatternPlan,
    ) -> None:
        """See `GradualPruning`."""
        super().__init__(config, weights, zeros=zeros, schedule=schedule, plan=plan)
        self._fresh = FreshGradients()

    def new_gradients(self) -> None:
        """See `UsesGradients`."""
        self._fresh.forget()

    def before_step(self) -> None:
        """See `Method`: the criterion looks first, the force is added after it, once."""
        weights = self._in_place.weights
        for name in self._fresh.take(weights):
            pattern = self._plan.patterns[name]
            add_group_lasso(weights[name], self._config.alpha, pattern=pattern)
        super().before_step()
