"""MdGf: pruned weights fade out, multiplied by a value that falls from 1 to 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.pruning.methods.nm_base import NMTraining
from ws_learner.pruning.methods.nm_config import NMConfig
from ws_learner.pruning.methods.shadow_masks import ShadowMasks
from ws_learner.pruning.schedules.nm_phases import Decay, MaskDecay, Phases

__all__ = ["MdGf", "MdgfConfig"]


@dataclass(frozen=True, kw_only=True)
class MdgfConfig(NMConfig):
    """Settings of mask-decay gradient flow (Bambhaniya et al., CPAL 2025, section 3).

    Attributes:
        decay: Curve of the mask value D.
        beta: Decay per optimizer step; None: by `zero_at`.
        zero_at: Share of the sparse phase after which D is 0, in (0, 1].
        gradient: `chain` is the derivative of the forward pass, D g for pruned weights; `ste`,
            which the authors' code has, gives them g.
    """

    decay: Decay = "exponential"
    beta: float | None = None
    zero_at: float = 0.9
    gradient: Literal["chain", "ste"] = "chain"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta is not None and not 0 < self.beta < math.inf:
            raise UserError(f"`MdgfConfig.beta` {self.beta}: must be above 0")
        if not 0 < self.zero_at <= 1:
            raise UserError(f"`MdgfConfig.zero_at` {self.zero_at}: must be a share in (0, 1]")

    @classmethod
    def own_settings(cls, config: WeightSparseConfig) -> dict[str, Any]:
        """See `NMConfig.own_settings`."""
        return {
            "beta": config.mdgf_beta,
            "zero_at": config.mdgf_zero_at,
            "decay": config.mdgf_decay,
            "gradient": config.mdgf_gradient,
        }

    def _method(
        self, masks: ShadowMasks, *, zeros: Mapping[str, int], phases: Phases
    ) -> NMTraining:
        return MdGf(self, masks, zeros=zeros, phases=phases)


class MdGf(NMTraining):
    """Forward w (mask + D (1 - mask)) with a D that decays; the mask is the final pattern's."""

    def __init__(
        self, config: MdgfConfig, masks: ShadowMasks, *, zeros: Mapping[str, int], phases: Phases
    ) -> None:
        """See `NMTraining`."""
        super().__init__(config, masks, zeros=zeros, phases=phases)
        self._decay = MaskDecay(
            phases=phases, decay=config.decay, beta=config.beta, zero_at=config.zero_at
        )
        self._gradient = config.gradient

    def mask_value(self, step: int) -> float:
        """See `NMTraining`."""
        return self._decay.value(step)

    def _edit(self, grads: Mapping[str, Tensor]) -> None:
        if self._gradient == "chain" and self._now >= self._phases.begin:
            factor = self.mask_value(self._now)
            self._shadow_masks.scale_pruned(grads, dict.fromkeys(grads, factor))
