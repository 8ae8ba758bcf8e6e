"""SdGf: binary masks with a pattern that tightens stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.pruning.methods.mdgf import MdGf, MdgfConfig
from ws_learner.pruning.methods.shadow_masks import ShadowMasks
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.schedules.nm_phases import (
    Decay,
    Phases,
    StageShape,
    stage_of,
    stage_patterns,
)

__all__ = ["SdGf", "SdgfConfig"]


@dataclass(frozen=True, kw_only=True)
class SdgfConfig(MdgfConfig):
    """Settings of structure-decay gradient flow (Bambhaniya et al., CPAL 2025, section 3).

    By default masks are binary and gradients pass straight through; with a `decay` of its own it
    is SdGf and MdGf at once.

    Attributes:
        shape: `stepwise` or `geometric`, see `stage_patterns`.
        stages: Number of patterns, from 1; None: see `stage_patterns`.
    """

    decay: Decay = "step"
    gradient: Literal["chain", "ste"] = "ste"
    shape: StageShape = "geometric"
    stages: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stages is not None and self.stages < 1:
            raise UserError(f"`SdgfConfig.stages` {self.stages}: must be at least 1")

    @classmethod
    def own_settings(cls, config: WeightSparseConfig) -> dict[str, Any]:
        """See `NMConfig.own_settings`."""
        return super().own_settings(config) | {
            "decay": config.sdgf_mask_decay,
            "gradient": "ste" if config.sdgf_mask_decay == "step" else config.mdgf_gradient,
            "shape": config.sdgf_decay,
            "stages": config.sdgf_stages,
        }

    def _method(self, masks: ShadowMasks, *, zeros: Mapping[str, int], phases: Phases) -> SdGf:
        return SdGf(self, masks, zeros=zeros, phases=phases)


class SdGf(MdGf):
    """The sparse phase is split evenly over the stages; the last one is the target."""

    def __init__(
        self, config: SdgfConfig, masks: ShadowMasks, *, zeros: Mapping[str, int], phases: Phases
    ) -> None:
        """See `NMTraining`."""
        super().__init__(config, masks, zeros=zeros, phases=phases)
        self._stages = []
        for piece in masks.pieces:
            shape = masks.shadow[piece.name].shape
            column = piece.target.columns and len(shape) == 2
            width = piece.rows.stop - piece.rows.start if column else shape[1]
            self._stages.append(
                stage_patterns(piece.target, config.shape, config.stages, width=width)
            )

    def patterns(self, step: int) -> Sequence[NM]:
        """See `NMTraining`."""
        return [stages[stage_of(step, len(stages), self._phases)] for stages in self._stages]
