"""A profile within budgets: restate the problem, run the protocol, settle, measure, correct."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from torch import nn

from envs import FloatArray, IntArray, LayerRow
from ws_learner.config import RolloutConfig, WeightSparseConfig
from ws_learner.core import LayerChoice, LayerCosts, RunDir, UserError, say
from ws_learner.data import Split
from ws_learner.search.allocation import Decision
from ws_learner.search.closed_form import run_closed_form
from ws_learner.search.context import AllocationContext
from ws_learner.search.costs.begun import keep_begun, load_begun
from ws_learner.search.costs.choice_spaces import ChoiceSpaces
from ws_learner.search.costs.contest import Contest
from ws_learner.search.costs.correct import AIM, budget_part, correct_latency
from ws_learner.search.costs.counted import WeightedCosts
from ws_learner.search.costs.ladder_space import LadderSpace
from ws_learner.search.costs.limits import budget_limits, refuse_unreachable
from ws_learner.search.costs.plain_settings import plain_settings
from ws_learner.search.costs.settle import Limit
from ws_learner.search.costs.shares import weigh_budgets
from ws_learner.search.costs.source import CostSource
from ws_learner.search.costs.space import CostSpace, Profile, share_saved, within_limits
from ws_learner.search.rollout.choice_grid import choice_patterns
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.pool_protocol import Evaluator

__all__ = ["BudgetedAllocation"]

Protocol = Callable[[AllocationContext, Callable[[], Evaluator], WeightSparseConfig], Decision]
"""Runs the protocol of the settings on a context."""


@dataclass(kw_only=True)
class BudgetedAllocation:
    """Allocates within the budgets of the settings, with one pattern or a choice among several.

    Attributes:
        model: The dense network.
        layers: The layer table.
        config: The settings.
        source: Measures costs; None where only weights and multiply-accumulates are counted.
        evaluator: Builds the evaluator of rollouts with these settings.
        protocol: Runs the protocol.
        run: The run directory.
        select: Examples on which candidates are compared after a short training.
    """

    model: nn.Module
    layers: tuple[LayerRow, ...]
    config: WeightSparseConfig
    source: CostSource | None
    evaluator: Callable[[RolloutConfig], RolloutEvaluator]
    protocol: Protocol
    run: RunDir
    select: Split

    @cached_property
    def _spaces(self) -> ChoiceSpaces:
        return ChoiceSpaces(
            model=self.model,
            layers=self.layers,
            config=self.config,
            evaluator=self.evaluator,
            select=self.select,
        )

    def check(self) -> None:
        """Refuse budgets that cannot be met, as far as nothing must be measured for it.

        Raises:
            UserError: One cannot be met.
        """
        sized = ("bytes",) if self.source is not None and not self.config.structured else ()
        counted = [one for one in self.config.budgets if one.kind in ("params", "macs", *sized)]
        if self.source is not None:
            self.source.check(self.config.budgets, patterns=self.config.pattern_choices)
        if self.config.chooses:
            choice_patterns(self.config.pattern_choices)
        if counted:
            limits = budget_limits(
                counted, self.layers, source=self.source, choices=list, says=False
            )
            refuse_unreachable(limits, self._spaces.at_best())

    def decide(self) -> Decision:
        """Run the protocol within the budgets.

        Raises:
            UserError: A budget cannot be met.
        """
        limits = self._measured_limits()
        costs, most = self._combined(limits)
        space = self._spaces.space(costs)
        share = share_saved(space, costs, most)
        self._refuse_goals(space)
        if share <= 0:
            if self._spaces.base.lower.any():
                say("the budget asks for no more zeros than the layers have by their bounds")
            else:
                say("the dense network is within the budget: nothing is pruned")
            decision, ticks = Decision(zeros=self._spaces.base.lower), space.bounds[0]
        else:
            config = plain_settings(self.config, saved=share)
            power = self.config.ws_score_power
            decision = self.protocol(space.at(share), lambda: space.evaluator(power=power), config)
            ticks = decision.zeros
        facts = dict(decision.facts) | {"budget": self.config.ws_budget or self.config.ws_goals}
        joint = partial(self._corrected, limits, space, ticks)
        if share > 0 and self._compares(space):
            best, facts["choices_compared"] = self._contest(limits, costs, most).best(joint)
            profile, parts = best.profile, best.parts
        else:
            profile, parts = joint()
        facts |= {"budget_parts": parts} | self._table_facts(limits, profile)
        zeros = np.array([choice.zeros for choice in profile], dtype=np.int64)
        return replace(decision, zeros=zeros, facts=facts)

    def cheaper(
        self, kept: Decision, profile: Profile, latencies: Sequence[float | None]
    ) -> Decision | None:
        """A cheaper decision for a trained network that is too slow.

        Args:
            kept: What `decide` came to.
            profile: Its choices.
            latencies: For each budget the milliseconds that it measured, or None if it is met.

        Returns:
            None if nothing cheaper is within the layers' bounds.
        """
        limits = self._measured_limits()
        aims = [
            limit
            if found is None
            else replace(limit, most=limit.cost(profile) * AIM * limit.most / found)
            for limit, found in zip(limits, latencies, strict=True)
        ]
        costs, _ = self._combined(limits)
        patterns = {choice.pattern for choice in profile if choice.zeros}
        space = (
            self._spaces.ladder_space(costs, patterns)
            if self.config.chooses
            else self._spaces.space(costs)
        )
        chosen = space.cheaper(profile, aims)
        if chosen is None or chosen == profile:
            return None
        pairs = zip(limits, self.config.budgets, strict=True)
        parts = [budget_part(limit, one, limit.cost(chosen)) for limit, one in pairs]
        zeros = np.array([choice.zeros for choice in chosen], dtype=np.int64)
        facts = dict(kept.facts) | {"budget_parts": parts} | self._table_facts(limits, chosen)
        return replace(kept, zeros=zeros, facts=facts)

    def _measured_limits(self) -> list[Limit]:
        """The budgets in their units, as an earlier call on the run measured them, or as now."""
        earlier, budgets = load_begun(self.run), self.config.budgets
        limits = budget_limits(
            budgets, self.layers, source=self.source, choices=self._spaces.options, earlier=earlier
        )
        refuse_unreachable(limits, self._spaces.allowed())
        keep_begun(self.run, budgets, limits, earlier)
        return limits

    def _corrected(
        self, limits: list[Limit], space: CostSpace, ticks: IntArray
    ) -> tuple[Profile, list[dict[str, Any]]]:
        return correct_latency(
            lambda aims: within_limits(space, ticks, aims),
            limits,
            self.config.budgets,
            measure=lambda place, chosen: self._measure(space, place, chosen),
        )

    def _compares(self, space: CostSpace) -> bool:
        """Whether each pattern alone is a candidate beside the joint choice."""
        measured = any(one.kind == "latency" for one in self.config.budgets)
        several = len(self.config.pattern_choices) > 1
        return isinstance(space, LadderSpace) and measured and several

    def _contest(self, limits: list[Limit], costs: LayerCosts, most: float) -> Contest:
        return Contest(
            patterns=[str(one) for one in self.config.pattern_choices],
            space=lambda patterns: self._spaces.ladder_space(costs, patterns),
            corrected=partial(self._corrected, limits),
            share=lambda space: share_saved(space, costs, most),
            loss=self._spaces.loss_after_training,
        )

    def network(self, choices: Sequence[LayerChoice]) -> nn.Module:
        """The pruned and regressed network of one choice for each layer, of those it chose from."""
        return self._spaces.joint.network(choices)

    def _refuse_goals(self, space: CostSpace) -> None:
        """Refuse a range of targets whose ends the bounds do not allow."""
        total, (lower, upper) = int(space.sizes.sum()), space.bounds
        for saved in self.config.goal_range or ():
            if not lower.sum() <= round(saved * total) <= upper.sum():
                raise UserError(
                    f"`ws_goals` {self.config.ws_goals}: the layers' bounds allow shares from "
                    f"{1 - upper.sum() / total:.4f} to {1 - lower.sum() / total:.4f}"
                )

    def _combined(self, limits: list[Limit]) -> tuple[LayerCosts, float]:
        """One cost and its budget."""
        if len(limits) == 1:
            return limits[0].costs, limits[0].most

        def overspent(shares: FloatArray) -> list[float]:
            costs = _weighted(limits, shares)
            space = self._spaces.space(costs)
            share = share_saved(space, costs, 1.0)
            if share <= 0:
                dense = [own[0] for own in self._spaces.options()]
                return [limit.cost(dense) / limit.most for limit in limits]
            context = space.at(share)
            name = "knapsack" if context.own() is None else "divergence"
            chosen = space.cheapest(run_closed_form(name, context))
            return [limit.cost(chosen) / limit.most for limit in limits]

        return _weighted(limits, weigh_budgets(overspent, len(limits))), 1.0

    def _measure(self, space: CostSpace, place: int, profile: Profile) -> float:
        """Measured cost of the pruned, regressed network."""
        assert self.source is not None
        named = zip(self.layers, profile, strict=True)
        choices = {row.name: choice for row, choice in named}
        return self.source.measure(self.config.budgets[place], space.network(profile), choices)

    def _table_facts(self, limits: list[Limit], profile: Profile) -> dict[str, Any]:
        """What the table of ratios says of each layer, beyond its zeros."""
        facts: dict[str, Any] = {}
        if self.config.chooses:
            facts["patterns"] = [choice.pattern for choice in profile]
            facts["dtypes"] = [choice.dtype for choice in profile]
        for limit in limits:
            if limit.costs.unit.startswith("latency"):
                costs = [limit.costs.cost(i, choice) for i, choice in enumerate(profile)]
                facts["predicted_ms"] = [round(cost, 6) for cost in costs]
        return facts


def _weighted(limits: list[Limit], shares: FloatArray) -> WeightedCosts:
    return WeightedCosts(
        parts=[limit.costs for limit in limits],
        budgets=[limit.most for limit in limits],
        shares=shares.tolist(),
    )
