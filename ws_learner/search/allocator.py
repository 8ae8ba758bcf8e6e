"""Allocator: runs a protocol to get a profile, and saves it for resuming."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from torch import nn

from agents import DDPGConfig
from envs import IntArray, LayerRow
from ws_learner.config import METHODS, RolloutConfig, WeightSparseConfig
from ws_learner.core import LayerChoice, OutputKind, RunDir, UserError, check_output_kind
from ws_learner.data import DataSplits
from ws_learner.pruning import PatternPlan, read_layer_choices, trained_by
from ws_learner.report import read_rollouts
from ws_learner.search.allocation import Allocation, Decision, load_decision, save_decision
from ws_learner.search.closed_form import CLOSED_FORM, run_closed_form
from ws_learner.search.context import AllocationContext, allocation_context, refuse_bounds
from ws_learner.search.costs.budgeted import BudgetedAllocation
from ws_learner.search.costs.finished import cheaper_decision
from ws_learner.search.costs.source import CostSource
from ws_learner.search.fixed import fixed_profile
from ws_learner.search.layer_limits import layer_limits
from ws_learner.search.problem import build_rollout_config
from ws_learner.search.rollout.choice_evaluator import ChoiceEvaluator
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.pool_protocol import Evaluator, PoolFactory
from ws_learner.search.searched import search_profile
from ws_learner.search.structured.budgeted import StructuredAllocation, structured_network
from ws_learner.search.units import build_plan, in_whole_units, refuse_too_small
from ws_learner.search.warm_start import load_earlier_policy
from ws_learner.training import Loss, Metric

__all__ = ["Allocation", "Allocator", "database_dir"]


@dataclass(kw_only=True)
class Allocator:
    """Runs the protocol of the settings.

    Attributes:
        model: The dense network.
        data: The data splits.
        layers: The layer table.
        loss: Task loss.
        metric: Score of each example.
        config: Settings of the learner.
        agent: Settings of the DDPG agent.
        seed: Seed of all random numbers.
        pool: Builds the pool that scores rollouts, local or on a cluster.
        run: Run directory for state and tables.
        outputs: What the outputs mean; None takes what the data say, or infers it.
        costs: Measures what a budget is spent on; None: only weights and multiply-accumulates are
            counted.
    """

    model: nn.Module
    data: DataSplits
    layers: tuple[LayerRow, ...]
    loss: Loss
    metric: Metric
    config: WeightSparseConfig
    agent: DDPGConfig
    seed: int
    pool: PoolFactory
    run: RunDir
    outputs: OutputKind | None = None
    costs: CostSource | None = None
    _evaluator: RolloutEvaluator | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.outputs is not None:
            check_output_kind(self.outputs)

    def run_protocol(self) -> Allocation:
        """Run the protocol, or load the result of an earlier call.

        Raises:
            UserError: The target cannot be met, the given ratios do not match the network, or
                no rollout could be scored.
        """
        answer = self.run.state / "allocation.json"
        if not answer.exists():
            begun = time.monotonic()
            decision = self._decide()
            own = "patterns" in decision.facts  # in whole units already, as under a budget
            locked = METHODS[self.config.ws_method].keeps_zeros
            if not (locked or self.config.budgets or own):
                plan = build_plan(self.model, self.layers, self.config)
                limits = self._limits(plan)
                zeros = in_whole_units(
                    decision.zeros, self.layers, plan, config=self.config, limits=limits
                )
                decision = replace(decision, zeros=zeros)
            seconds = round(time.monotonic() - begun, 1)
            save_decision(answer, replace(decision, seconds=seconds))
        kept = load_decision(answer, self.layers)
        if kept.rollouts:
            self._refuse_earlier_failures()
        return Allocation(**vars(kept), network=lambda: self._network(kept))

    def after_training(self, kept: Allocation, network: nn.Module, *, number: int) -> Allocation:
        """A cheaper allocation if the trained network is too slow for its budgets, else the same.

        It is kept in the run directory under its number.
        """
        answer = self.run.state / f"allocation-{number}.json"
        if not answer.exists():
            assert self.costs is not None
            decision = cheaper_decision(
                Decision(**{item.name: getattr(kept, item.name) for item in fields(Decision)}),
                network,
                layers=self.layers,
                config=self.config,
                source=self.costs,
                cheaper=self.budgeted().cheaper,
            )
            save_decision(answer, decision)
        return Allocation(**vars(load_decision(answer, self.layers)), network=kept.network)

    def _refuse_earlier_failures(self) -> None:
        """Refuse a run of a version that chose among rollouts which all failed."""
        table = read_rollouts(self.run.rollouts) if self.run.rollouts.exists() else None
        if table is None or not len(table) or "failed" not in table:
            return
        if (table["failed"] != "").all():
            raise UserError(
                f"`run_dir` {self.run.path}: all {len(table)} rollouts of its search failed "
                f"({table['failed'].iloc[0]}), so its ratios mean nothing; delete it or give "
                "another"
            )

    def _limits(self, plan: PatternPlan) -> dict[str, tuple[int, int]]:
        given = self.config.ws_prune_ratio_prtl == "given"
        return layer_limits(self.layers, self.config, plan, general=(0.0, 1.0) if given else None)

    def _decide(self) -> Decision:
        config = self.config
        fixed = fixed_profile(self.model, self.layers, config)
        if fixed is not None:
            return Decision(zeros=fixed, facts=self._given_choices(fixed))
        if config.structured:
            return self._structured().decide()
        if config.budgets:
            return self.budgeted().decide()
        for target in config.goal_range or ():
            refuse_bounds(self.model, self.layers, replace(config, ws_prune_ratio=target))
        return self._by_protocol(self._context(), self.evaluator, config)

    def _given_choices(self, zeros: IntArray) -> dict[str, list[str]]:
        """Patterns and number formats of the layers, where a table of ratios names them."""
        given = self.config.ws_ratios
        found = (
            None
            if given is None
            else read_layer_choices(given, self.model, self.layers, zeros=zeros)
        )
        if found is None:
            return {}
        return {
            "patterns": [choice.pattern for choice in found],
            "dtypes": [choice.dtype for choice in found],
        }

    def _network(self, kept: Decision) -> nn.Module:
        """The network of the rollout, or with whole units at zero."""
        if self.config.structured:
            return structured_network(self.model, self.run)
        patterns, dtypes = kept.facts.get("patterns"), kept.facts.get("dtypes")
        if patterns is None or dtypes is None:
            return self.evaluator().network(kept.zeros)
        rows = zip(patterns, kept.zeros.tolist(), dtypes, strict=True)
        choices = [LayerChoice(pattern=own, zeros=count, dtype=d) for own, count, d in rows]
        if self.config.budgets:
            return self.budgeted().network(choices)
        return ChoiceEvaluator(
            self.evaluator(),
            patterns=dict.fromkeys(patterns),
            dtypes=dict.fromkeys(dtypes),
            trained=trained_by(self.config),
        ).network(choices)

    def _structured(self) -> StructuredAllocation:
        if self.costs is None:
            raise UserError(f"`ws_budget` {self.config.ws_budget}: nothing here measures it")
        return StructuredAllocation(
            model=self.model,
            data=self.data,
            layers=self.layers,
            loss=self.loss,
            metric=self.metric,
            config=self.config,
            source=self.costs,
            seed=self.seed,
            run=self.run,
        )

    def check_budgets(self) -> None:
        """Refuse budgets that cannot be met or measured, as far as that is known before the work.

        Raises:
            UserError: There is one.
        """
        self.budgeted().check()
        if self.config.structured:
            self._structured().check()

    def budgeted(self) -> BudgetedAllocation:
        """The allocation within the budgets of the settings."""
        return BudgetedAllocation(
            model=self.model,
            layers=self.layers,
            config=self.config,
            source=self.costs,
            evaluator=self._build_evaluator,
            protocol=self._by_protocol,
            run=self.run,
            select=self.data.select,
        )

    def _by_protocol(
        self,
        context: AllocationContext,
        evaluator: Callable[[], Evaluator],
        config: WeightSparseConfig,
    ) -> Decision:
        """Run the protocol of the settings on a context, in weights or in units of cost."""
        name = config.ws_prune_ratio_prtl
        if not (context.lower < context.upper).any():
            return Decision(zeros=context.lower.copy())  # nothing to decide
        if config.ws_policy is not None:
            from ws_learner.search.policy_use import decide_by_policy  # loads the agent

            zeros, facts = decide_by_policy(
                config.ws_policy, context.layers, config, self.model, restated=context.restated
            )
            return Decision(zeros=zeros, facts=facts)
        if name in CLOSED_FORM:
            return Decision(zeros=run_closed_form(name, context))
        if context.restated is None:
            plan = build_plan(self.model, self.layers, config)
            refuse_too_small(self.layers, plan, config=config)
        earlier = load_earlier_policy(config, context, self.model)
        return search_profile(
            context,
            evaluator(),
            model=self.model,
            earlier=earlier,
            config=config,
            agent=self.agent,
            seed=self.seed,
            pool=self.pool,
            select=self.data.select,
            run=self.run,
        )

    def _context(self) -> AllocationContext:
        return allocation_context(
            self.model,
            self.layers,
            self.config,
            curves=lambda: self.evaluator().curves(),
            wanda_scores=lambda: self.evaluator().wanda_scores(),
            own=lambda: self.evaluator().own_divergences(),
        )

    def evaluator(self) -> RolloutEvaluator:
        """The evaluator of candidates, built on first use because it reads calibration images."""
        if self._evaluator is None:
            self._evaluator = self._build_evaluator(build_rollout_config(self.config))
        return self._evaluator

    def _build_evaluator(self, config: RolloutConfig) -> RolloutEvaluator:
        self._evaluator = RolloutEvaluator(
            self.model,
            self.data,
            layers=self.layers,
            loss=self.loss,
            metric=self.metric,
            config=config,
            seed=self.seed,
            cache_dir=database_dir(),
            outputs=self.outputs,
        )
        return self._evaluator


def database_dir() -> Path:
    """Folder of the layer databases, shared by all runs: WS_DATA_DIR or the user's cache."""
    return Path(os.environ.get("WS_DATA_DIR") or Path.home() / ".cache" / "ws_learner") / "layers"
