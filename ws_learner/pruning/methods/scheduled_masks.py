"""Gradual pruning: masks on the stored weights, updated along a schedule."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.core import UserError
from ws_learner.pruning.criteria import Criterion
from ws_learner.pruning.methods.packed_masks import PackedMasks
from ws_learner.pruning.methods.stored_masks import StoredMasks
from ws_learner.pruning.methods.tensor_state import copy_parts, take_part
from ws_learner.pruning.patterns.mask import count_zeros
from ws_learner.pruning.patterns.model_plan import PatternPlan
from ws_learner.pruning.patterns.scope import Scope
from ws_learner.pruning.schedules.polynomial import Schedule
from ws_learner.pruning.unfelt_layers import UnfeltLayers

__all__ = ["GradualPruning"]


class MaskSettings(Protocol):
    """Settings protocol of `GradualPruning`; implemented by `GradualConfig`."""

    @property
    def scope(self) -> Scope:
        """Whether each layer has its own count."""

    @property
    def ratio_min(self) -> float:
        """Least ratio of a layer under a global scope."""

    @property
    def ratio_max(self) -> float:
        """Largest ratio of a layer under a global scope."""

    def every(self, ramp: int) -> int:
        """Steps between mask updates on a ramp of `ramp` steps."""

    def make_criterion(self, plan: PatternPlan) -> Criterion:
        """Build the pruning criterion."""


class GradualPruning:
    """Zhu & Gupta 2017, section 3, with the dense weights of PocketFlow.

    A layer with z final zeros has round(share(t) z) of them after the mask update at step t, moved
    to whole units of the pattern, and exactly z from t_e on, when masks are frozen. Masks are
    computed from the values that pruned weights had when they were last alive, so such a weight
    may come back with its old value.
    """

    _moving = False  # whether the optimizer moves pruned weights

    def __init__(
        self,
        config: MaskSettings,
        weights: Mapping[str, nn.Parameter],
        *,
        zeros: Mapping[str, int],
        schedule: Schedule,
        plan: PatternPlan,
    ) -> None:
        """Start dense; `zeros` holds the final number of zeros of each of the `weights`."""
        self._in_place = StoredMasks(weights)
        self._in_place.moving = self._moving
        self._config, self._plan, self._schedule = config, plan, schedule
        self._zeros = dict(zeros)
        self._every = config.every(schedule.end_step - schedule.begin_step)
        self._criterion = config.make_criterion(plan)
        self._unfelt = UnfeltLayers()

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """See `Method`."""
        return self._in_place.masks

    def planned_zeros(self, step: int) -> dict[str, int]:
        """See `Method`; under the global scope only the sum is a plan."""
        share = self._schedule.share(step)
        return self._plan.snap({name: round(share * zeros) for name, zeros in self._zeros.items()})

    def attach(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`: a schedule may begin with an update before the first step."""
        self._in_place.to_device()
        first = step == 0 and self._schedule.is_update(0, self._every)
        if first and self._schedule.share(0) > 0 and not self._criterion.needs_gradients:
            self._renew(0)
        self._in_place.mask_state(optimizer)  # it may remember what was before

    @property
    def reads_gradients(self) -> bool:
        """See `UsesGradients`."""
        return self._criterion.needs_gradients

    adds_terms = False

    @property
    def sets_gradients(self) -> bool:
        """See `UsesGradients`."""
        return False

    def new_gradients(self) -> None:
        """See `UsesGradients`: there are no terms."""

    def on_gradients(self) -> None:
        """See `Method`."""
        self._in_place.take_over_writes()
        self._criterion.observe(self._in_place.weights)

    def before_step(self) -> None:
        """See `Method`."""
        self._in_place.mask_gradients()

    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`."""
        late = step == 1 and self._criterion.needs_gradients  # at step 0 nothing was known
        if self._is_update(step) or (late and self._is_update(0)):
            self._renew(step)
            self._in_place.mask_state(optimizer)
        else:
            self._in_place.mask_weights()

    def _is_update(self, step: int) -> bool:
        return self._schedule.is_update(step, self._every)

    def _renew(self, step: int) -> None:
        planned, values = self.planned_zeros(step), self._in_place.dense_values()
        masks = PackedMasks()
        compared = self._config.scope == "global"
        try:
            if compared:
                planned = self._plan.spread_globally(
                    self._criterion.scores(values),
                    sum(planned.values()),
                    least=self._config.ratio_min,
                    most=self._config.ratio_max,
                )
            for team in self._plan.teams:  # one after the other: few scores at a time
                own = {name: values[name] for name in team}
                scores = self._criterion.scores(own)
                if any(planned[name] for name in team):
                    scores = self._unfelt.ranked(self._criterion, scores, own, compared=compared)
                masks.update(self._plan.masks(scores, {name: planned[name] for name in team}))
        except ValueError as error:
            raise UserError(f"pruning at step {step}: {error}") from error
        self._in_place.update_masks(masks)

    def penalty(self) -> Tensor:
        """See `Method`: zero."""
        weights = self._in_place.weights.values()
        return torch.zeros((), device=next((w.device for w in weights), None))

    def is_finished(self, step: int) -> bool:
        """See `HasEnd`."""
        return step >= self._schedule.end_step

    def finish(self, step: int) -> None:
        """See `Method`.

        Raises:
            UserError: The ramp has not ended, so there are too few zeros.
            RuntimeError: The number of pruned weights is wrong; a defect of this program.
        """
        if not self.is_finished(step):
            raise UserError(
                f"training ended at step {step}, before the ramp's last step "
                f"{self._schedule.end_step}: train longer or lower `iter_ratio_end`"
            )
        pruned = {name: count_zeros(mask) for name, mask in self.masks.items()}
        wrong = {name: n for name, n in pruned.items() if n != self._zeros[name]}
        if wrong and self._config.scope == "local":
            name = next(iter(wrong))
            raise RuntimeError(f"{name}: {wrong[name]} pruned, not {self._zeros[name]}")
        done, wanted = sum(pruned.values()), sum(self._zeros.values())
        if done != wanted:  # units of unequal size within bounds on the layers
            warnings.warn(f"{done} weights pruned, {wanted} planned", stacklevel=2)
        self._in_place.make_zeros(stacklevel=3)

    def state_dict(self) -> dict[str, Tensor]:
        """See `Method`."""
        seen = copy_parts({"criterion": self._criterion.state_dict()})
        return self._in_place.state_dict() | seen

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Method`."""
        seen, own = take_part(state, "criterion")
        strangers = set(seen) - set(self._zeros)
        if strangers:
            raise UserError(
                f"the saved state belongs to another network or target: {min(strangers)}"
            )
        self._in_place.load_state_dict(own)
        self._criterion.load_state_dict(seen)
