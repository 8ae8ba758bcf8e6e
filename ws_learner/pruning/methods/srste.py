"""SR-STE: binary masks from the first sparse step on, and a pull of pruned weights to zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.pruning.methods.nm_base import NMTraining
from ws_learner.pruning.methods.nm_config import NMConfig
from ws_learner.pruning.methods.shadow_masks import ShadowMasks
from ws_learner.pruning.schedules.nm_phases import Phases

__all__ = ["SrSte", "SrSteConfig", "Term"]

Term = Literal["gradient", "decoupled"]


@dataclass(frozen=True, kw_only=True)
class SrSteConfig(NMConfig):
    """Settings of SR-STE (Zhou et al., ICLR 2021, equation 8).

    Attributes:
        weight: lambda, 0 or above; 0 is the plain straight-through estimator.
        term: `gradient` adds lambda (1 - mask) w to the gradient, so that Adam rescales it;
            `decoupled` takes lr lambda (1 - mask) w off the weight, as AdamW does its decay.
    """

    fine_tune: float = 0.0
    weight: float = 2e-4
    term: Term = "gradient"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight < math.inf:
            raise UserError(f"`SrSteConfig.weight` {self.weight}: must be 0 or above")

    @classmethod
    def own_settings(cls, config: WeightSparseConfig) -> dict[str, Any]:
        """See `NMConfig.own_settings`."""
        return {"weight": config.srste_lambda, "term": config.srste_term}

    def _method(self, masks: ShadowMasks, *, zeros: Mapping[str, int], phases: Phases) -> SrSte:
        return SrSte(self, masks, zeros=zeros, phases=phases)


class SrSte(NMTraining):
    """Forward mask x w; gradient g + lambda (1 - mask) w for all weights."""

    def __init__(
        self, config: SrSteConfig, masks: ShadowMasks, *, zeros: Mapping[str, int], phases: Phases
    ) -> None:
        """See `NMTraining`."""
        super().__init__(config, masks, zeros=zeros, phases=phases)
        self._weight, self._term = config.weight, config.term

    @property
    def adds_terms(self) -> bool:
        """See `UsesGradients`."""
        return self._term == "gradient" and self._weight > 0

    def _edit(self, grads: Mapping[str, Tensor]) -> None:
        if self._term == "gradient" and self._weight:
            shadow = [self._shadow_masks.shadow[name] for name in grads]
            keep = [self._shadow_masks.keep[name] for name in grads]
            torch._foreach_add_(list(grads.values()), shadow, alpha=self._weight)
            torch._foreach_addcmul_(list(grads.values()), shadow, keep, value=-self._weight)

    def _before_update(self, optimizer: Optimizer) -> None:
        if self._term == "gradient" or not self._weight or self._frozen(self._now):
            return
        rates = {id(p): float(g["lr"]) for g in optimizer.param_groups for p in g["params"]}
        weights = self._shadow_masks.weights
        factors = {name: 1 - rates[id(w)] * self._weight for name, w in weights.items()}
        self._shadow_masks.scale_pruned({n: w.data for n, w in weights.items()}, factors)
