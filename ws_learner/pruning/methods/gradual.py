"""Gradual pruning: sparsity rises along a schedule while the network trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from torch import nn

from ws_learner.config import SCHEDULES, CriterionName, ScheduleName, WeightSparseConfig
from ws_learner.core import UserError, by_layer, check_settings
from ws_learner.pruning.criteria import Criterion, build_criterion
from ws_learner.pruning.layers.layer_plan import Remainder, build_pattern_plan, drop_unfitting
from ws_learner.pruning.methods.scheduled_masks import GradualPruning
from ws_learner.pruning.patterns.model_plan import PatternPlan
from ws_learner.pruning.patterns.pattern import (
    Pattern,
    PoolName,
    Unstructured,
    convert_pattern,
    parse_pattern,
)
from ws_learner.pruning.patterns.scope import Scope
from ws_learner.pruning.schedules.epoch_schedule import frequency_in_steps
from ws_learner.pruning.schedules.polynomial import (
    PolynomialSchedule,
    Schedule,
    check_ratios,
    usual_interval,
)
from ws_learner.pruning.schedules.registry import build_schedule

__all__ = ["GradualConfig", "GradualPruning"]

_ROUNDING = 1e-9  # 0.1 * 30 is slightly above 3; this must not move a bound


@dataclass(frozen=True, kw_only=True)
class GradualConfig:
    """Settings of gradual pruning; the names are the flags without `ws_`.

    Attributes:
        prune_ratio_exp: Exponent of the polynomial ramp, above 0.
        iter_ratio_beg: Share of all optimizer steps at which the ramp begins, in [0, 1).
        iter_ratio_end: Share at which it ends, in (iter_ratio_beg, 1].
        mask_update_step: Optimizer steps between two mask updates, from 1 to the ramp's length;
            None means 25, or a tenth of a shorter ramp.
        pattern: Which weights are pruned together; a pattern or its spelling, such as `4x1`, or a
            dict of parameter name -> either.
        criterion: What makes a weight's score.
        pool: How scores are pooled over a unit of the pattern.
        ramp: Shape of the schedule.
        initial_ratio: Overall sparsity at the beginning of the ramp, up to the target.
        scope: `local` gives each layer its own count; `global` takes only their sum, and the
            smallest scores of the whole network go.
        ratio_min: Least ratio of a layer under `global`.
        ratio_max: Largest ratio of a layer under `global`.
        min_ratios: Least ratios of single layers under `global`: name or pattern -> ratio, in
            place of `ratio_min`.
        max_ratios: Largest ones, likewise.
        remainder: How to treat a layer that the pattern does not divide.
        update_frequency: Epochs between updates, instead of `mask_update_step`; below 1 a share
            of an epoch, at least a step. Needs `steps_per_epoch`.
        steps_per_epoch: Optimizer steps of an epoch.
        fixed_schedule: Takes the place of all settings of the schedule but the update interval.

    Raises:
        UserError: A value is outside its range; the line names the flag.
    """

    prune_ratio_exp: float = 3.0
    iter_ratio_beg: float = 0.1
    iter_ratio_end: float = 0.5
    mask_update_step: int | None = None
    pattern: Pattern = field(default_factory=Unstructured)
    criterion: CriterionName = "magnitude"
    pool: PoolName = "mean"
    ramp: ScheduleName = "polynomial"
    initial_ratio: float = 0.0
    scope: Scope = "local"
    ratio_min: float = 0.0
    ratio_max: float = 1.0
    min_ratios: Mapping[str, float] = field(default_factory=dict)
    max_ratios: Mapping[str, float] = field(default_factory=dict)
    remainder: Remainder = "pad"
    update_frequency: float | None = None
    steps_per_epoch: int | None = None
    fixed_schedule: Schedule | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        convert_pattern(self)
        if not 0 < self.prune_ratio_exp < math.inf:
            raise UserError(f"`prune_ratio_exp` {self.prune_ratio_exp}: must be above 0")
        check_ratios(self.iter_ratio_beg, self.iter_ratio_end)
        if self.mask_update_step is not None and self.mask_update_step < 1:
            raise UserError(
                f"`mask_update_step` {self.mask_update_step}: allowed are whole numbers from 1"
            )
        if not 0 <= self.ratio_min <= self.ratio_max <= 1:
            raise UserError(
                f"`ratio_min` {self.ratio_min} and `ratio_max` {self.ratio_max}: allowed "
                "are 0 <= least <= largest <= 1"
            )
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise UserError(
                f"`steps_per_epoch` {self.steps_per_epoch}: allowed are whole numbers from 1"
            )
        if self.update_frequency is not None and not 0 < self.update_frequency < math.inf:
            raise UserError(
                f"`update_frequency` {self.update_frequency:g}: must be a number above 0"
            )
        if self.update_frequency is not None and self.steps_per_epoch is None:
            raise UserError("an update frequency in epochs needs the number of steps in an epoch")

    @classmethod
    def from_settings(
        cls, config: WeightSparseConfig, *, steps_per_epoch: int, total_steps: int
    ) -> Self:
        """See `FromSettings`; a subclass adds its own settings in `own_settings`."""
        fixed = config.named_ratios("ws_fixed_ratios")
        return cls(
            prune_ratio_exp=config.ws_prune_ratio_exp,
            iter_ratio_beg=config.ws_iter_ratio_beg,
            iter_ratio_end=config.ws_iter_ratio_end,
            mask_update_step=config.ws_mask_update_step,
            pattern=parse_pattern(config.pattern_spelling),
            criterion=config.ws_criterion,
            pool=config.ws_criterion_pool,
            ramp=config.ws_schedule,
            initial_ratio=config.ws_initial_ratio,
            scope=config.ws_scope,
            ratio_min=config.ws_ratio_min,
            ratio_max=config.ws_ratio_max,
            min_ratios=config.named_ratios("ws_min_ratios") | fixed,
            max_ratios=config.named_ratios("ws_max_ratios") | fixed,
            remainder=config.ws_remainder,
            update_frequency=config.ws_update_frequency,
            steps_per_epoch=steps_per_epoch,
            **cls.own_settings(config),
        )

    @classmethod
    def own_settings(cls, config: WeightSparseConfig) -> dict[str, Any]:
        """The fields that a subclass adds, from the learner's settings."""
        return {}

    def every(self, ramp: int) -> int:
        """Optimizer steps between two updates on a ramp of `ramp` steps."""
        if self.update_frequency is None or self.steps_per_epoch is None:
            return self.mask_update_step or usual_interval(ramp)
        return frequency_in_steps(self.update_frequency, self.steps_per_epoch)

    def schedule(self, total_steps: int, *, target: float = 0.9) -> Schedule:
        """Lay the ramp over a training of `total_steps` optimizer steps.

        Args:
            total_steps: Optimizer steps of the whole training.
            target: Overall sparsity at the end; matters for `exp` and an initial ratio only.

        Raises:
            UserError: The ramp does not fit, or is shorter than one mask update interval.
        """
        if self.fixed_schedule is not None:
            return self.fixed_schedule
        ramp = PolynomialSchedule.from_ratios(
            total_steps, self.iter_ratio_beg, self.iter_ratio_end, self.prune_ratio_exp
        )
        length = ramp.end_step - ramp.begin_step
        every = self.every(length)
        if every > length and not SCHEDULES.find(self.ramp).once:
            flag = f"`mask_update_step` {every}"
            if self.update_frequency is not None:
                flag = f"`update_frequency` {self.update_frequency:g} ({every} steps)"
            raise UserError(
                f"{flag} is longer than the ramp of {length} steps, so all weights would go at "
                f"once: lower it to at most {length} steps, or raise `nb_epochs`"
            )
        return build_schedule(
            self.ramp,
            begin=ramp.begin_step,
            end=ramp.end_step,
            target=target,
            initial=self.initial_ratio,
            exponent=self.prune_ratio_exp,
            steps_per_epoch=self.steps_per_epoch,
            update_frequency=self.update_frequency or 1.0,
        )

    def feasible(self, model: nn.Module, zeros: Mapping[str, int]) -> dict[str, int]:
        """See `MethodConfig.feasible`."""
        asked = [name for name, count in zeros.items() if count]
        out = drop_unfitting(model, asked, pattern=self.pattern, remainder=self.remainder)
        wanted = {name: zeros[name] for name in asked if name not in out}
        return dict.fromkeys(zeros, 0) | self._plan(model, wanted).snap(wanted)

    def build(
        self, model: nn.Module, *, zeros: Mapping[str, int], total_steps: int
    ) -> GradualPruning:
        """Set the method up; see `MethodConfig.build`."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        weights = {name: parameters[name] for name in zeros}
        size = sum(weight.numel() for weight in weights.values())
        target = sum(zeros.values()) / size if size else 0.0
        plan = self._plan(model, zeros)
        if self.scope == "global":
            self._check_bounds(plan, sum(zeros.values()), size)
        method = self._method(
            weights,
            zeros=zeros,
            schedule=self.schedule(total_steps, target=target),
            plan=plan,
        )
        if self.scope == "global" and (self.min_ratios or self.max_ratios):
            method.limit_layers(self._limits(parameters, plan))
        return method

    def _limits(
        self, parameters: Mapping[str, nn.Parameter], plan: PatternPlan
    ) -> dict[str, tuple[int, int]]:
        """Least and most zeros of the layers that the settings name, in whole units."""
        floors, caps = (
            by_layer(given, list(parameters), where=f"`{setting}`")
            for setting, given in (("min_ratios", self.min_ratios), ("max_ratios", self.max_ratios))
        )
        found = {}
        for name, shape in plan.shapes.items():
            if name in floors or name in caps:
                size = math.prod(shape)
                low = floors[name][1] if name in floors else 0.0
                high = caps[name][1] if name in caps else max(self.ratio_max, low)
                most = math.floor(high * size + _ROUNDING)
                found[name] = min(math.ceil(low * size - _ROUNDING), most), most
        return plan.limited(found)

    def _check_bounds(self, plan: PatternPlan, zeros: int, size: int) -> None:
        """Refuse a total that leaves no layer within its bounds, whole units aside."""
        unit = max(
            (int(p.sizes(plan.shapes[n]).max()) for n, p in plan.patterns.items()), default=1
        )
        for name, ratio, off in (
            ("ratio_max", self.ratio_max, zeros - math.ceil(self.ratio_max * size)),
            ("ratio_min", self.ratio_min, math.floor(self.ratio_min * size) - zeros),
        ):
            if off >= unit * len(plan.patterns):
                raise UserError(
                    f"`{name}` {ratio}: {zeros / size:.4g} of all weights are to be pruned, so the "
                    "layers cannot all keep to it; move it or the target"
                )

    def _plan(self, model: nn.Module, names: Mapping[str, int]) -> PatternPlan:
        return build_pattern_plan(model, names, pattern=self.pattern, pool=self.pool)

    def _method(
        self,
        weights: Mapping[str, nn.Parameter],
        *,
        zeros: Mapping[str, int],
        schedule: Schedule,
        plan: PatternPlan,
    ) -> GradualPruning:
        return GradualPruning(self, weights, zeros=zeros, schedule=schedule, plan=plan)

    def make_criterion(self, plan: PatternPlan) -> Criterion:
        """The criterion that the settings name."""
        return build_criterion(self.criterion)
