"""A profile within budgets: restate the problem, run the protocol, settle, measure, correct."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from envs import FloatArray, IntArray, LayerRow, project
from ws_learner.config import RolloutConfig, WeightSparseConfig
from ws_learner.core import LayerChoice, LayerCosts, RunDir, UserError, say
from ws_learner.search.allocation import Decision
from ws_learner.search.context import AllocationContext, allocation_context
from ws_learner.search.costs.axes import cost_axes
from ws_learner.search.costs.correct import correct_latency
from ws_learner.search.costs.counted import WeightedCosts
from ws_learner.search.costs.limits import budget_limits, refuse_unreachable
from ws_learner.search.costs.restated import RestatedContext, RestatedEvaluator
from ws_learner.search.costs.settle import Limit, settle
from ws_learner.search.costs.shares import weigh_budgets
from ws_learner.search.costs.source import CostSource
from ws_learner.search.problem import build_rollout_config
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.pool_protocol import Evaluator
from ws_learner.search.units import build_plan

__all__ = ["BudgetedAllocation", "plain_settings"]

Protocol = Callable[[AllocationContext, Callable[[], Evaluator], WeightSparseConfig], Decision]
"""Runs the protocol of the settings on a context."""


def plain_settings(config: WeightSparseConfig, *, saved: float) -> WeightSparseConfig:
    """The settings of the restated problem: the target is the share of the cost that is saved."""
    goals = config.goal_range
    return replace(
        config,
        ws_budget=None,
        ws_dtype="fp32",
        ws_pattern=config.pattern_spelling if config.ws_pattern else "",
        ws_location="",
        ws_qkv_pattern="",
        ws_sparse_dim="row",
        ws_prune_ratio=saved,
        ws_ratio_max=max(config.ws_ratio_max, saved),
        ws_goals=None if goals is None else f"{goals[0]:.12g}:{goals[1]:.12g}",
    )


@dataclass(kw_only=True)
class BudgetedAllocation:
    """Allocates zeros within the budgets of the settings, with one pattern and number format.

    Attributes:
        model: The dense network.
        layers: The layer table.
        config: The settings.
        source: Measures costs; None where only weights and multiply-accumulates are counted.
        evaluator: Builds the evaluator of rollouts with these settings.
        protocol: Runs the protocol.
        run: The run directory.
    """

    model: nn.Module
    layers: tuple[LayerRow, ...]
    config: WeightSparseConfig
    source: CostSource | None
    evaluator: Callable[[RolloutConfig], RolloutEvaluator]
    protocol: Protocol
    run: RunDir

    def check(self) -> None:
        """Refuse budgets that cannot be met, as far as nothing must be measured for it.

        Raises:
            UserError: One cannot be met.
        """
        counted = [one for one in self.config.budgets if one.kind in ("params", "macs")]
        if counted:
            limits = budget_limits(counted, self.layers, source=None, choices=list)
            refuse_unreachable(limits, self._choices(self._base.upper), self._dense)

    def decide(self) -> Decision:
        """Run the protocol within the budgets.

        Raises:
            UserError: A budget cannot be met.
        """
        limits = budget_limits(
            self.config.budgets, self.layers, source=self.source, choices=self._measured
        )
        refuse_unreachable(limits, self._choices(self._base.upper), self._dense)
        costs, most = self._combined(limits)
        space, share = self._restated(costs, most)
        self._refuse_goals(space)
        if share <= 0:
            say("the dense network is within the budget: nothing is pruned")
            decision, ticks = Decision(zeros=self._base.lower), space.bounds[0]
        else:
            config = plain_settings(self.config, saved=share)
            decision = self.protocol(space.at(share), lambda: self._scorer(space), config)
            ticks = decision.zeros
        fit = self._fitter(space, ticks)
        zeros, parts = correct_latency(
            fit,
            limits,
            self.config.budgets,
            measure=self._measure,
        )
        facts = dict(decision.facts) | {"budget": self.config.ws_budget or self.config.ws_goals}
        facts["budget_parts"] = parts
        return replace(decision, zeros=zeros, facts=facts | self._predicted(limits, zeros))

    def _refuse_goals(self, space: RestatedContext) -> None:
        """Refuse a range of targets whose ends the bounds do not allow."""
        total, (lower, upper) = int(space.axes.sizes.sum()), space.bounds
        for saved in self.config.goal_range or ():
            if not lower.sum() <= round(saved * total) <= upper.sum():
                raise UserError(
                    f"`ws_goals` {self.config.ws_goals}: the layers' bounds allow shares from "
                    f"{1 - upper.sum() / total:.4f} to {1 - lower.sum() / total:.4f}"
                )

    @cached_property
    def _plan(self) -> Any:
        return build_plan(self.model, self.layers, self.config)

    @cached_property
    def _inner(self) -> RolloutEvaluator:
        made = build_rollout_config(self.config)
        return self.evaluator(replace(made, score_power=1.0, nb_smpls_slope=self._slopes(made)))

    def _slopes(self, made: RolloutConfig) -> int:
        """Slopes by the log of a density serve where the cost is in proportion to it."""
        linear = all(one.kind in ("params", "macs") for one in self.config.budgets)
        return made.nb_smpls_slope if linear else 0

    @cached_property
    def _base(self) -> AllocationContext:
        return allocation_context(
            self.model,
            self.layers,
            plain_settings(self.config, saved=WeightSparseConfig.ws_prune_ratio),
            curves=lambda: self._inner.curves(),
            wanda_scores=lambda: self._inner.wanda_scores(),
            own=lambda: self._inner.own_divergences(),
            aimed=False,
        )

    @property
    def _dense(self) -> list[LayerChoice]:
        return self._choices(np.zeros(len(self.layers), np.int64))

    def _choice(self, zeros: int) -> LayerChoice:
        pattern = self.config.pattern_choices[0]
        return LayerChoice(pattern=pattern, zeros=int(zeros), dtype=self.config.dtypes[0])

    def _choices(self, zeros: IntArray) -> list[LayerChoice]:
        return [self._choice(count) for count in zeros]

    def _measured(self) -> list[list[LayerChoice]]:
        """The dense layer, and the one with most zeros: the ends of what is measured."""
        return [
            [self._choice(0), self._choice(int(most))] if most else [self._choice(0)]
            for most in self._base.upper
        ]

    def _combined(self, limits: list[Limit]) -> tuple[LayerCosts, float]:
        """One cost and its budget."""
        if len(limits) == 1:
            return limits[0].costs, limits[0].most

        def overspent(shares: FloatArray) -> list[float]:
            space, share = self._restated(_weighted(limits, shares), 1.0)
            if share <= 0:
                return [limit.cost(self._dense) / limit.most for limit in limits]
            from ws_learner.search.closed_form import run_closed_form

            own = space.base.own()
            name = "knapsack" if own is None else "divergence"
            zeros = space.axes.whole(run_closed_form(name, space.at(share)))
            return [limit.cost(self._choices(zeros)) / limit.most for limit in limits]

        return _weighted(limits, weigh_budgets(overspent, len(limits))), 1.0

    def _restated(self, costs: LayerCosts, most: float) -> tuple[RestatedContext, float]:
        """The problem in ticks, and the share of them that must be saved."""
        axes = cost_axes(
            self.layers,
            costs,
            plan=self._plan,
            pattern=self.config.pattern_choices[0],
            dtype=self.config.dtypes[0],
        )
        space = RestatedContext(unit=costs.unit, axes=axes, base=self._base)
        total = int(axes.sizes.sum())
        kept = int(np.floor((most - costs.overhead) / axes.tick + 1e-6)) + axes.free
        lower, upper = space.bounds
        saved = min(max(total - kept, int(lower.sum())), int(upper.sum()))
        return space, saved / total if saved > int(lower.sum()) else 0.0

    def _scorer(self, space: RestatedContext) -> Evaluator:
        return RestatedEvaluator(
            self._inner, space.axes, context=space.at, power=self.config.ws_score_power
        )

    def _fitter(self, space: RestatedContext, ticks: IntArray) -> Callable[[list[Limit]], IntArray]:
        """Makes the profile nearest to one in ticks that is within limits."""
        axes, (lower, upper) = space.axes, space.bounds
        total = axes.sizes

        def at(budget: int) -> FloatArray:
            projected = project(ticks, budget=budget, lower=lower, upper=upper, weights=total)
            return axes.zeros(projected)

        def fits(budget: int, limits: list[Limit]) -> bool:
            choices = self._choices(np.ceil(at(budget) - 1e-6).astype(np.int64))
            return all(limit.holds(limit.cost(choices)) for limit in limits)

        def fit(limits: list[Limit]) -> IntArray:
            low, high, start = int(lower.sum()), int(upper.sum()), int(ticks.sum())
            if not fits(high, limits):
                raise UserError(
                    f"`ws_budget` {self.config.ws_budget}: cannot be met together within the "
                    "layers' bounds; raise one"
                )
            near = max(start - max(1, int(total.sum()) // 2000), low)
            if fits(start, limits) and (near == start or not fits(near, limits)):
                high = low = start  # as the protocol said
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if fits(middle, limits) else (middle, high)
            return settle(
                at(high),
                self.layers,
                plan=self._plan,
                limits=limits,
                lower=self._base.lower,
                choice=self._choice,
            )

        return fit

    def _measure(self, place: int, zeros: IntArray) -> float:
        """Measured cost of the pruned, regressed network."""
        assert self.source is not None
        named = zip(self.layers, self._choices(zeros), strict=True)
        choices = {row.name: choice for row, choice in named}
        network = self._inner.network(zeros)
        return self.source.measure(self.config.budgets[place], network, choices)

    def _predicted(self, limits: list[Limit], zeros: IntArray) -> dict[str, Any]:
        """Predicted milliseconds of each layer, for the table of ratios."""
        for limit in limits:
            if limit.costs.unit.startswith("latency"):
                rows = enumerate(self._choices(zeros))
                return {"predicted_ms": [round(limit.costs.cost(i, one), 6) for i, one in rows]}
        return {}


def _weighted(limits: list[Limit], shares: FloatArray) -> WeightedCosts:
    return WeightedCosts(
        parts=[limit.costs for limit in limits],
        budgets=[limit.most for limit in limits],
        shares=shares.tolist(),
    )
