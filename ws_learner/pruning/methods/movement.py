"""Hard movement pruning: gradual pruning with scores learned from weight movement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.pruning.criteria import Criterion
from ws_learner.pruning.methods.gradual import GradualConfig
from ws_learner.pruning.methods.learned_scores import LearnedScores, check_score_rate
from ws_learner.pruning.methods.pruning_with_feedback import PruningWithFeedback
from ws_learner.pruning.methods.scheduled_masks import GradualPruning
from ws_learner.pruning.patterns.model_plan import PatternPlan
from ws_learner.pruning.patterns.score_grid import grid_of
from ws_learner.pruning.schedules.polynomial import Schedule

__all__ = ["MovementConfig", "MovementPruning"]


@dataclass(frozen=True, kw_only=True)
class MovementConfig(GradualConfig):
    """Settings of hard movement pruning: gradual pruning without the criterion.

    Layers end on the exact number of zeros they were given; `threshold_movement` has the variant
    with a threshold and a penalty, whose sparsity is an outcome.

    Attributes:
        score_lr: Learning rate of the scores, whatever schedule the weights' rate follows.
        start: Scores before the first step: `magnitude` (relative to the layer's mean), so that
            movement corrects an order that is not blind; or `zero`, as in the paper, whose first
            masks are as good as random unless pruning begins late.
        steps: How scores move: by the training's `optimizer`, as in the paper (under Adam all move
            alike, however little a weight matters); `relative` to the layer, see
            `LearnedScores`; or there are none and the `weights` move, see `PruningWithFeedback`.

    Raises:
        UserError: A value is outside its range.
    """

    score_lr: float = 1e-3
    start: Literal["magnitude", "zero"] = "magnitude"
    steps: Literal["optimizer", "relative", "weights"] = "optimizer"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_score_rate(self.score_lr)
        if self.criterion != "magnitude":
            raise UserError(
                f"`criterion` {self.criterion}: movement learns its scores; leave the flag out"
            )
        if self.steps == "weights" and self.start == "zero":
            raise UserError(
                "`MovementConfig.start` zero with `MovementConfig.steps` weights: the weights are "
                "the scores"
            )

    @classmethod
    def own_settings(cls, config: WeightSparseConfig) -> dict[str, Any]:
        """See `GradualConfig.own_settings`."""
        return {
            "score_lr": config.movement_score_lr,
            "start": config.movement_start,
            "steps": config.movement_steps,
        }

    def make_criterion(self, plan: PatternPlan) -> Criterion:
        """See `GradualConfig.make_criterion`."""
        if self.steps == "weights":
            return super().make_criterion(plan)
        grids = {name: grid_of(plan.patterns[name], plan.shapes[name]) for name in plan.patterns}
        return LearnedScores(
            grids,
            layers=len(grids),
            lrn_rate=self.score_lr,
            relative=self.steps == "relative",
        )

    def _method(
        self,
        weights: Mapping[str, nn.Parameter],
        *,
        zeros: Mapping[str, int],
        schedule: Schedule,
        plan: PatternPlan,
    ) -> MovementPruning | PruningWithFeedback:
        if self.steps == "weights":
            return PruningWithFeedback(self, weights, zeros=zeros, schedule=schedule, plan=plan)
        return MovementPruning(self, weights, zeros=zeros, schedule=schedule, plan=plan)


class MovementPruning(GradualPruning):
    """Sanh et al. 2020, "MvP": keep the weights of the largest scores, ever fewer of them.

    From the schedule's last update on masks are final, and the scores are not trained any more.
    """

    _criterion: LearnedScores

    def __init__(
        self,
        config: MovementConfig,
        weights: Mapping[str, nn.Parameter],
        *,
        zeros: Mapping[str, int],
        schedule: Schedule,
        plan: PatternPlan,
    ) -> None:
        """See `GradualPruning`."""
        super().__init__(config, weights, zeros=zeros, schedule=schedule, plan=plan)
        self._started = config.start == "zero"

    def attach(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`; the scores get an optimizer group of their own."""
        super().attach(optimizer, step)
        self._criterion.attach(optimizer, self._in_place.weights)

    @property
    def reads_gradients(self) -> bool:
        """See `UsesGradients`."""
        return not self._criterion.frozen

    @property
    def sets_gradients(self) -> bool:
        """See `UsesGradients`."""
        return self._criterion.trained

    def on_gradients(self) -> None:
        """See `Method`; the first step starts the scores, after weights were loaded or shared."""
        self._in_place.take_over_writes()
        self._start()
        self._started = True
        if not self._criterion.frozen:
            self._criterion.learn(self._in_place.weights, self._in_place.dense_values())

    def _start(self) -> None:
        """Before the first step the scores are those of the weights there are."""
        if not self._started:
            self._criterion.start_at_magnitude(self._in_place.weights)

    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`."""
        super().after_step(optimizer, step)
        if step >= self._schedule.end_step and not self._criterion.frozen:
            self._criterion.freeze(optimizer)

    def state_dict(self) -> dict[str, Tensor]:
        """See `Method`."""
        self._start()
        return super().state_dict() | {
            "frozen": torch.tensor(self._criterion.frozen),
            "started": torch.tensor(self._started),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Method`."""
        rest = dict(state)
        frozen = rest.pop("frozen", torch.tensor(False))
        started = rest.pop("started", torch.tensor(True))  # older states begin with their scores
        super().load_state_dict(rest)
        self._started = bool(started)
        if bool(frozen):
            self._criterion.freeze()
