"""The allocation problem in any cost: each layer's choices, and what evaluates them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import nn

from envs import LayerRow, count_bounds
from ws_learner.config import RolloutConfig, WeightSparseConfig
from ws_learner.core import LayerChoice, LayerCosts
from ws_learner.data import Split
from ws_learner.pruning import PatternPlan, trained_by
from ws_learner.search.context import AllocationContext, allocation_context
from ws_learner.search.costs.axes import cost_axes
from ws_learner.search.costs.ladder import build_ladders
from ws_learner.search.costs.ladder_space import LadderSpace
from ws_learner.search.costs.plain_settings import plain_settings
from ws_learner.search.costs.restated import RestatedContext
from ws_learner.search.costs.space import CostSpace, Profile
from ws_learner.search.problem import build_rollout_config
from ws_learner.search.rollout.choice_evaluator import ChoiceEvaluator
from ws_learner.search.rollout.choice_grid import DENSE
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.units import build_plan

__all__ = ["ChoiceSpaces"]

_STEPS = 60
"""Of the short training after which patterns are compared."""


@dataclass(kw_only=True)
class ChoiceSpaces:
    """Makes the spaces of a network under the settings, with one pattern or several.

    Attributes:
        model: The dense network.
        layers: The layer table.
        config: The settings.
        evaluator: Builds the evaluator of rollouts with these settings.
        select: Examples on which candidates are compared after a short training.
    """

    model: nn.Module
    layers: tuple[LayerRow, ...]
    config: WeightSparseConfig
    evaluator: Callable[[RolloutConfig], RolloutEvaluator]
    select: Split

    @cached_property
    def plan(self) -> PatternPlan:
        """Whole units of the pattern."""
        return build_plan(self.model, self.layers, self.config)

    @cached_property
    def rollouts(self) -> RolloutEvaluator:
        """Scores profiles of zeros as they are."""
        made = build_rollout_config(self.config)
        return self.evaluator(replace(made, score_power=1.0, nb_smpls_slope=self._slopes(made)))

    def _slopes(self, made: RolloutConfig) -> int:
        """Slopes by the log of a density serve where the cost is in proportion to it."""
        linear = all(one.kind in ("params", "macs") for one in self.config.budgets)
        return made.nb_smpls_slope if linear else 0

    @cached_property
    def base(self) -> AllocationContext:
        """The context in weights; its budget is not used."""
        context = allocation_context(
            self.model,
            self.layers,
            plain_settings(self.config, saved=WeightSparseConfig.ws_prune_ratio),
            curves=lambda: self.rollouts.curves(),
            wanda_scores=lambda: self.rollouts.wanda_scores(),
            own=lambda: self.rollouts.own_divergences(),
            aimed=False,
        )
        if self.config.chooses:  # each pattern has units of its own
            return context
        bounds = zip(self.layers, context.lower.tolist(), context.upper.tolist(), strict=True)
        limits = {row.name: (low, high) for row, low, high in bounds}
        limits |= self.plan.limited({n: limits[n] for n in self.plan.patterns})
        upper = np.array([limits[row.name][1] for row in self.layers], dtype=np.int64)
        lower = np.array([limits[row.name][0] for row in self.layers], dtype=np.int64)
        return replace(context, lower=np.minimum(lower, upper), upper=upper)

    def _choice(self, zeros: int) -> LayerChoice:
        pattern = self.config.pattern_choices[0]
        return LayerChoice(pattern=pattern, zeros=int(zeros), dtype=self.config.dtypes[0])

    def options(self) -> Sequence[Sequence[LayerChoice]]:
        """The choices of each layer, the dense one first: what a table of costs must cover."""
        if self.config.chooses:
            return self.joint.database.choices
        found = []
        for row, most in zip(self.layers, self.base.upper, strict=True):
            own = self.plan.patterns.get(row.name)
            wanted = () if own is None else (int(most) // 2, int(most))
            counts = {own.feasible(row.shape, n, side="down") for n in wanted if own is not None}
            found.append([self._choice(count) for count in sorted({0, *counts})])
        return found

    def at_best(self) -> Sequence[Sequence[LayerChoice]]:
        """The dense layers and, where nothing is measured for it, the cheapest that may be."""
        if not self.config.chooses:
            return self.allowed()
        kinds = [
            replace(DENSE, pattern=pattern, dtype=dtype)
            for pattern in self.config.pattern_choices
            for dtype in self.config.dtypes
        ]
        counts = self.base.upper.tolist()
        return [(DENSE, *(replace(one, zeros=count) for one in kinds)) for count in counts]

    def allowed(self) -> Sequence[Sequence[LayerChoice]]:
        """The choices within the layers' bounds, after the dense one."""
        pairs = zip(self.options(), self.base.upper.tolist(), strict=True)
        return [[own[0], *(one for one in own[1:] if one.zeros <= most)] for own, most in pairs]

    @cached_property
    def joint(self) -> ChoiceEvaluator:
        """Scores joint choices, and has their errors."""
        return ChoiceEvaluator(
            self.rollouts,
            patterns=self.config.pattern_choices,
            dtypes=self.config.dtypes,
            trained=trained_by(self.config),
            limits=self._limits,
        )

    @cached_property
    def _limits(self) -> dict[str, tuple[int, int]]:
        """Least and most zeros of the layers whose bounds are not the usual ones."""
        usual = count_bounds(
            WeightSparseConfig.ws_ratio_min,
            WeightSparseConfig.ws_ratio_max,
            np.array([row.weights for row in self.layers], dtype=np.int64),
        )
        rows = zip(self.layers, self.base.lower, self.base.upper, *usual, strict=True)
        return {
            row.name: (int(low), int(high))
            for row, low, high, least, most in rows
            if not row.exempt and (low, high) != (least, most)
        }

    def space(self, costs: LayerCosts, patterns: Collection[str] = ()) -> CostSpace:
        """The problem in ticks; where patterns are chosen, with names among those only."""
        if self.config.chooses:
            return self.ladder_space(costs, patterns)
        axes = cost_axes(
            self.layers,
            costs,
            plan=self.plan,
            pattern=self.config.pattern_choices[0],
            dtype=self.config.dtypes[0],
        )
        return RestatedContext(
            unit=costs.unit,
            axes=axes,
            base=self.base,
            plan=self.plan,
            choice=self._choice,
            rollouts=lambda: self.rollouts,
        )

    def ladder_space(self, costs: LayerCosts, patterns: Collection[str] = ()) -> LadderSpace:
        """The joint choice; with names, among the zeros of those patterns only."""
        database = self.joint.database
        ladders = build_ladders(
            self.layers,
            database.choices,
            costs=costs,
            errors=database.errors(),
            own=database.own(),
            least=self.base.lower,
            most=self.base.upper,
            patterns=patterns,
        )
        return LadderSpace(
            unit=costs.unit,
            ladders=ladders,
            scores=self.joint,
            score_power=self.config.ws_score_power,
        )

    @cached_property
    def _trained(self) -> ChoiceEvaluator:
        """Trains joint choices for a while, and scores them on the select split."""
        made = build_rollout_config(self.config)
        steps = max(made.nb_iters_ft, _STEPS)
        made = replace(made, score_power=1.0, nb_smpls_slope=0, nb_iters_ft=steps)
        return self.joint.with_rollouts(self.evaluator(made).on(self.select))

    def loss_after_training(self, profile: Profile) -> float:
        """Loss of a profile's network after a short training, or without targets 1 - its reward."""
        if not self._trained.rollouts.exam.labelled:
            return 1 - self.joint.score(profile).reward
        return self._trained.mean_loss(profile)
