"""Movement sparsity with a threshold and a penalty: the sparsity is an outcome, not a target.

Soft movement pruning (Sanh et al. 2020, section 4) with the settings, the schedule and the order
of events of NNCF's algorithm. Two differences: masked weights keep their value exactly, where NNCF
lets momentum and weight decay keep moving them; and a warm-up that begins at step 0 masks nothing
before the first step, when all scores are still equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from ws_learner.core import UserError, check_settings
from ws_learner.pruning.layers.weight_kinds import layout_of
from ws_learner.pruning.methods.learned_scores import LearnedScores, check_score_rate
from ws_learner.pruning.methods.threshold_masks import ThresholdMovement
from ws_learner.pruning.patterns.laid_out import for_layout
from ws_learner.pruning.patterns.pattern import (
    Pattern,
    PerLayerPatterns,
    Unstructured,
    convert_pattern,
)
from ws_learner.pruning.patterns.score_grid import ScoreGrid, grid_of
from ws_learner.pruning.patterns.structured import Rule, UnitGroup
from ws_learner.pruning.schedules.movement_warmup import WarmUp, check_warm_up

__all__ = ["ThresholdMovementConfig"]


@dataclass(frozen=True, kw_only=True)
class ThresholdMovementConfig:
    """Settings by NNCF's names.

    Attributes:
        warmup_start_epoch: First epoch of the warm-up, from 0, perhaps with a fraction.
        warmup_end_epoch: Epoch before which it ends.
        importance_regularization_factor: Price of keeping, at the end of the warm-up, from 0.
        power: Of the schedule.
        init_importance_threshold: Threshold at the beginning, finite; None: the one that prunes
            0.1 %. Warns unless it lies below the final one.
        final_importance_threshold: Threshold at the end, finite.
        steps_per_epoch: Optimizer steps of an epoch; None: counted between the first two calls
            of `Sparsifier.epoch_begin`.
        patterns: Parameter name -> which weights share a score; else `pattern`.
        pattern: unstructured, a block, 1xchannel or channelx1.
        mask_bias: Biases have scores and masks too.
        score_lr: Learning rate of the scores.
        normalize: The factor is the price of a weight, the same in every pattern and layer.
        rule: After warm-up whole units of `groups` stay or go: `any` keeps a unit if any member
            keeps a part of it (NNCF), `all` only if every member does, the output projection of
            heads aside (nn_pruning).
        groups: Heads and neurons, see `find_groups`.

    Raises:
        UserError: Values are outside their ranges; all are named.
    """

    sets_own_ratios: ClassVar[bool] = True
    warmup_start_epoch: float
    warmup_end_epoch: float
    importance_regularization_factor: float
    power: float = 3.0
    init_importance_threshold: float | None = None
    final_importance_threshold: float = 0.0
    steps_per_epoch: int | None = None
    patterns: Mapping[str, Pattern] = field(default_factory=dict)
    pattern: Pattern = field(default_factory=Unstructured)
    mask_bias: bool = True
    score_lr: float = 1e-2
    normalize: bool = False
    rule: Rule | None = None
    groups: tuple[UnitGroup, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        convert_pattern(self)
        check_score_rate(self.score_lr)
        found = check_warm_up(
            self.warmup_start_epoch,
            self.warmup_end_epoch,
            power=self.power,
            steps_per_epoch=self.steps_per_epoch,
            counted=True,
        )
        factor = self.importance_regularization_factor
        if not 0 <= factor < math.inf:
            found.append(
                f"importance_regularization_factor {factor:g}: should not be a negative number"
            )
        for name in ("init_importance_threshold", "final_importance_threshold"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                found.append(f"{name} {value:g}: must be a finite number")
        if found:
            raise UserError("movement: " + "; ".join(found))
        if self.rule and not self.groups:
            raise UserError("movement: structured masking needs the groups of heads and neurons")

    def feasible(self, model: nn.Module, zeros: Mapping[str, int]) -> dict[str, int]:
        """See `MethodConfig.feasible`: no number of zeros can be asked for.

        Raises:
            UserError: One was.
        """
        wanted = next((name for name, count in zeros.items() if count), None)
        if wanted is not None:
            raise UserError(
                f"{zeros[wanted]} zeros for {wanted}: under a threshold the number of zeros is an "
                "outcome; name the layers alone, or take MovementConfig for a target"
            )
        return dict(zeros)

    def warm_up(self, steps_per_epoch: int) -> WarmUp:
        """The schedule once the length of an epoch is known."""
        return WarmUp(
            start=self.warmup_start_epoch,
            end=self.warmup_end_epoch,
            steps_per_epoch=steps_per_epoch,
            power=self.power,
        )

    def build(
        self, model: nn.Module, *, zeros: Mapping[str, int], total_steps: int
    ) -> ThresholdMovement:
        """Set the method up; see `MethodConfig.build`. The names of `zeros` are the layers."""
        known = dict(model.named_parameters(remove_duplicate=False))
        parameters: dict[str, nn.Parameter] = {}
        grids: dict[str, ScoreGrid] = {}
        biases: dict[str, str] = {}
        for name in zeros:
            parameters[name] = known[name]
            pattern = self.patterns.get(name, self.pattern)
            if isinstance(pattern, PerLayerPatterns):
                pattern = pattern.by_layer.get(name, Unstructured())
            laid_out = for_layout(pattern, layout_of(model, name), tuple(known[name].shape))
            grids[name] = _grid(laid_out, known[name], name)
            bias = name.removesuffix("weight") + "bias"
            if self.mask_bias and name.endswith("weight") and bias in known:
                parameters[bias], biases[name] = known[bias], bias
                grids[bias] = grids[name].bias(len(known[bias]))
        scores = LearnedScores(
            grids, layers=len(zeros), lrn_rate=self.score_lr, normalize=self.normalize
        )
        return ThresholdMovement(
            self, parameters, scores=scores, biases=biases, total_steps=total_steps
        )


def _grid(pattern: Pattern, weight: nn.Parameter, name: str) -> ScoreGrid:
    try:
        return grid_of(pattern, tuple(weight.shape))
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
