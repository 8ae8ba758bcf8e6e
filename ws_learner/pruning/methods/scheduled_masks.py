"""Gradual pruning: masks on the stored weights, updated along a schedule."""

from __future__ import annotations

import math
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
from ws_learner.pruning.patterns.model_plan import Limits, PatternPlan
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
        self._limits: Limits = {}
        self._kept: dict[str, Tensor] = {}
        self._held: dict[str, int] = {}

    @property
    def plan(self) -> PatternPlan:
        """The pattern of each weight."""
        return self._plan

    def limit_layers(self, limits: Limits) -> None:
        """Set least and most zeros of single layers at the end, under the global scope."""
        self._limits = limits

    @property
    def kept(self) -> Mapping[str, Tensor]:
        """See `KeepsZeros`."""
        return self._kept

    @kept.setter
    def kept(self, masks: Mapping[str, Tensor]) -> None:
        self._kept = {name: mask.detach().bool() for name, mask in masks.items()}
        self._held = {name: int(mask.sum()) for name, mask in self._kept.items()}

    def keep_zeros(self, kept: Mapping[str, Tensor]) -> None:
        """See `KeepsZeros`: the ramp of such a layer begins at the zeros that it has."""
        self.kept = kept
        self._in_place.dense_values()
        self._in_place.update_masks({name: ~mask for name, mask in self._kept.items()})

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """See `Method`."""
        return self._in_place.masks

    def planned_zeros(self, step: int) -> dict[str, int]:
        """See `Method`; under the global scope only the sum is a plan."""
        share, held = self._schedule.share(step), self._held
        if not held:
            return self._plan.snap({name: round(share * n) for name, n in self._zeros.items()})
        wanted = {name: _between(held.get(name, 0), n, share) for name, n in self._zeros.items()}
        if self._config.scope == "global":  # a layer may have more than its part of the total
            return wanted
        limits = {name: (count, self._zeros[name]) for name, count in held.items()}
        return self._plan.snap(wanted, limits=limits)

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
                limits, share = self._limits_now(sum(planned.values()))
                planned = self._plan.spread_globally(
                    self._with_kept(self._criterion.scores(values)),
                    sum(planned.values()),
                    least=self._config.ratio_min * (share if limits else 1.0),
                    most=self._config.ratio_max,
                    limits=limits,
                )
            for team in self._plan.teams:  # one after the other: few scores at a time
                own = {name: values[name] for name in team}
                scores = self._criterion.scores(own)
                if any(planned[name] for name in team):
                    scores = self._unfelt.ranked(self._criterion, scores, own, compared=compared)
                scores = self._with_kept(scores)
                masks.update(self._plan.masks(scores, {name: planned[name] for name in team}))
        except ValueError as error:
            raise UserError(f"pruning at step {step}: {error}") from error
        self._in_place.update_masks(masks)

    def _with_kept(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The scores, with those of weights that stay zero below all others."""
        lowest = {
            name: torch.where(self._kept[name].to(score.device), -torch.inf, score)
            for name, score in scores.items()
            if name in self._kept
        }
        return {**scores, **lowest}

    def _limits_now(self, total: int) -> tuple[dict[str, tuple[int, int]], float]:
        """Limits of single layers while `total` zeros are planned, and the share of the ramp done.

        Floors rise along the ramp: at its beginning there are not that many zeros.
        """
        size = {name: weight.numel() for name, weight in self._in_place.weights.items()}
        begin, end = sum(self._held.values()), sum(self._zeros.values())
        share = (total - begin) / (end - begin) if end > begin else 1.0
        found = {}
        for name in self._limits.keys() | self._held.keys():
            top = max(math.ceil(self._config.ratio_max * size[name]), self._zeros[name])
            low, high = self._limits.get(name, (0, top))
            held = self._held.get(name, 0)
            grown = low if share >= 1 else math.floor(low * share + held * (1 - share))
            found[name] = (max(held, grown), max(high, held))
        return found, share

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
        seen = copy_parts({"criterion": self._criterion.state_dict(), "kept": self._kept})
        return self._in_place.state_dict() | seen

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Method`."""
        seen, rest = take_part(state, "criterion")
        kept, own = take_part(rest, "kept")
        strangers = (set(seen) | set(kept)) - set(self._zeros)
        if strangers:
            raise UserError(
                f"the saved state belongs to another network or target: {min(strangers)}"
            )
        self._in_place.load_state_dict(own)
        self._criterion.load_state_dict(seen)
        self.kept = kept


def _between(begin: int, end: int, share: float) -> int:
    return begin + round(share * (end - begin))
