"""Allocator: runs a protocol to get a profile, and saves it for resuming."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from agents import DDPGConfig, Proposer
from envs import AllocationProblem, IntArray, LayerRow
from ws_learner.config import METHODS, WeightSparseConfig
from ws_learner.core import (
    OutputKind,
    RunDir,
    UserError,
    check_output_kind,
    read_json,
    say,
    write_json,
    write_text,
)
from ws_learner.data import DataSplits
from ws_learner.pruning import (
    PatternPlan,
    build_pattern_plan,
    found_zeros,
    parse_pattern,
    refuse_no_units,
    snap_profile,
)
from ws_learner.report import read_ratios, read_rollouts
from ws_learner.search.closed_form import CLOSED_FORM
from ws_learner.search.context import AllocationContext, allocation_context
from ws_learner.search.failures import count_failed, refuse_failures, say_failures
from ws_learner.search.history import Rollout, best, distinct_best, frame
from ws_learner.search.loop import Search
from ws_learner.search.problem import build_goal_problems, build_rollout_config
from ws_learner.search.registry import build_proposer
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.pool_protocol import PoolFactory
from ws_learner.search.seeds import seed_profiles
from ws_learner.search.warm_start import load_earlier_policy, load_earlier_profiles
from ws_learner.training import Loss, Metric, as_metric

__all__ = ["Allocation", "Allocator"]

_OWN_ENTRIES = ("zeros", "rollouts", "seconds", "failed")


@dataclass(frozen=True, kw_only=True, eq=False)
class Allocation:
    """Result of a protocol.

    Attributes:
        zeros: (L,) zero counts.
        rollouts: Number of rollouts.
        seconds: Wall time.
        network: Builds the network of the rollout: pruned, regressed, fine-tuned.
        failed: Number of rollouts that could not be scored, on either split.
        facts: Further entries of the summary, such as who supplied the profile.
    """

    zeros: IntArray
    rollouts: int
    seconds: float
    network: Callable[[], nn.Module]
    failed: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


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
    _evaluator: RolloutEvaluator | None = field(default=None, init=False)
    _facts: dict[str, Any] = field(default_factory=dict, init=False)

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
            zeros, rollouts, failed = self._decide()
            zeros = self._in_whole_units(zeros)
            seconds = round(time.monotonic() - begun, 1)
            plain = {"zeros": zeros.tolist(), "rollouts": rollouts, "seconds": seconds}
            write_json(answer, plain | {"failed": failed} | self._facts)
        kept = read_json(answer)
        if kept["rollouts"]:
            self._refuse_earlier_failures()
        zeros = np.array(kept["zeros"], dtype=np.int64)
        if len(zeros) != len(self.layers):
            raise UserError(
                f"{answer}: has zeros for {len(zeros)} layers, the layer table {len(self.layers)}: "
                "the run was made with another table; choose another run directory"
            )
        return Allocation(
            zeros=zeros,
            rollouts=kept["rollouts"],
            seconds=kept["seconds"],
            network=lambda: self.evaluator().network(zeros),
            failed=kept.get("failed", 0),
            facts={name: value for name, value in kept.items() if name not in _OWN_ENTRIES},
        )

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

    def _decide(self) -> tuple[IntArray, int, int]:
        """Zero counts, number of rollouts, number of failed ones."""
        config = self.config
        if config.ws_ratios is not None:
            zeros = read_ratios(config.ws_ratios, self.layers)
            share = int(zeros.sum()) / sum(row.weights for row in self.layers)
            say(f"ratios of {config.ws_ratios}: {share:.4f} overall (`ws_prune_ratio` is not used)")
            return zeros, 0, 0
        if METHODS[config.ws_method].keeps_zeros:
            return self._locked(), 0, 0
        if config.ws_prune_ratio_prtl == "given":  # N:M: as many zeros as the pattern makes
            plan = self._plan()
            most = [0 if row.exempt else plan.most(row.name) for row in self.layers]
            share = sum(most) / sum(row.weights for row in self.layers)
            say(f"pattern {config.pattern_spelling}: {share:.4f} of all weights become zero")
            return np.array(most, dtype=np.int64), 0, 0
        context, name = self._context(), config.ws_prune_ratio_prtl
        if not (context.lower < context.upper).any():
            return context.lower.copy(), 0, 0  # nothing to decide
        if config.ws_policy is not None:
            from ws_learner.search.policy_use import decide_by_policy  # loads the agent

            zeros, self._facts = decide_by_policy(config.ws_policy, self.layers, config, self.model)
            return zeros, 0, 0
        if name in CLOSED_FORM:
            return CLOSED_FORM[name](context), 0, 0
        self._refuse_before_search()
        return self._search(context)

    def _locked(self) -> IntArray:
        found = found_zeros(self.model, [row.name for row in self.layers])
        zeros = np.array(list(found.values()), dtype=np.int64)
        share = int(zeros.sum()) / sum(row.weights for row in self.layers)
        if not zeros.any():
            raise UserError(
                "`ws_method` pattern_lock: the network has no zeros to keep; give sparse weights "
                "with `dense_checkpoint`"
            )
        say(f"pattern_lock: {share:.4f} of the weights are zero (`ws_prune_ratio` is not used)")
        return zeros

    def _plan(self) -> PatternPlan:
        open_ = [row.name for row in self.layers if not row.exempt]
        pattern = parse_pattern(self.config.pattern_spelling)
        pool = self.config.ws_criterion_pool
        return build_pattern_plan(self.model, open_, pattern=pattern, pool=pool)

    def _in_whole_units(self, zeros: IntArray) -> IntArray:
        """The nearest profile that the pattern can make; the rollouts scored the same one."""
        if METHODS[self.config.ws_method].keeps_zeros:
            return zeros
        plan = self._plan()
        snapped = snap_profile(zeros, self.layers, plan)
        target = self.config.ws_prune_ratio
        if self.config.ws_ratios is not None:
            target = int(zeros.sum()) / sum(row.weights for row in self.layers)
        self._refuse_no_units(plan, target, reached=int(snapped.sum()))
        if int(snapped.sum()) != int(zeros.sum()):
            weights = sum(row.weights for row in self.layers)
            say(
                f"pattern {self.config.pattern_spelling}: {int(snapped.sum())} zeros in whole "
                f"units, {int(zeros.sum())} were requested "
                f"({int(snapped.sum()) / weights:.6f} overall)"
            )
        return snapped

    def _refuse_before_search(self) -> None:
        """Refuse a target that no profile can meet by as much as one unit."""
        plan, target = self._plan(), self.config.ws_prune_ratio
        budget, least = target * sum(row.weights for row in self.layers), plan.least()
        if 2 * round(budget) < least:
            self._refuse_no_units(plan, target, reached=0)

    def _refuse_no_units(self, plan: PatternPlan, asked_for: float, *, reached: int) -> None:
        """Refuse a target that came to no whole unit in any layer."""
        asked = {row.name: row.weights for row in self.layers if row.name in plan.patterns}
        total = sum(row.weights for row in self.layers)

        def zeros_at(target: float) -> int:
            if target == asked_for:
                return reached
            share = target * total / sum(asked.values())
            wanted = {name: min(size, round(share * size)) for name, size in asked.items()}
            return sum(plan.snap(wanted).values())

        refuse_no_units(
            zeros_at,
            asked_for,
            total=total,
            pattern=self.config.pattern_spelling,
            names=asked,
        )

    def _context(self) -> AllocationContext:
        return allocation_context(
            self.model,
            self.layers,
            self.config,
            curves=lambda: self.evaluator().curves(),
            own=lambda: self.evaluator().own_divergences(),
        )

    def evaluator(self) -> RolloutEvaluator:
        """The evaluator of candidates, built on first use because it reads calibration images."""
        if self._evaluator is None:
            self._evaluator = RolloutEvaluator(
                self.model,
                self.data,
                layers=self.layers,
                loss=self.loss,
                metric=self.metric,
                config=build_rollout_config(self.config),
                seed=self.seed,
                cache_dir=database_dir(),
                outputs=self.outputs,
            )
        return self._evaluator

    def _search(self, context: AllocationContext) -> tuple[IntArray, int, int]:
        config, earlier = self.config, load_earlier_policy(self.config, context, self.model)
        evaluator = self.evaluator()
        seeds = seed_profiles(context)
        if earlier is not None:
            earlier.refuse_other_reward(evaluator.rewarded())
            seeds = earlier.seeds | seeds
        if config.ws_rollouts is not None:
            again = load_earlier_profiles(config.ws_rollouts, context, count=config.ws_nb_rescore)
            seeds |= {f"earlier {place}": zeros for place, zeros in enumerate(again)}
        with self.pool(evaluator) as pool:
            at = build_goal_problems(evaluator, config, evaluate=pool.evaluate)
            problem, aims = at(config.ws_prune_ratio), None
            if config.goal_range is not None:
                aims = at
                for target in config.goal_range:
                    seeds[f"divergence at {target:g}"] = at(target).prior
            proposer = build_proposer(
                problem,
                config,
                agent=self.agent,
                seed=self.seed,
                goals=aims,
                earlier=None if earlier is None else earlier.policy,
            )
            history = Search(
                problem=problem,
                proposer=proposer,
                seeds=seeds,
                rollouts=config.ws_nb_rlouts,
                per_round=config.ws_rlouts_per_round,
                state=self.run.state / "search.pt",
                table=self.run.rollouts,
                metric=as_metric(self.metric).name,
                rewarded=evaluator.rewarded(),
            ).run()
            self._facts = self._leave_policy(proposer, history, problem)
        say_failures(history, split="search")
        zeros, failed = self._choose(history)
        return zeros, len(history), count_failed(history) + failed

    def _leave_policy(
        self, proposer: Proposer, history: Sequence[Rollout], problem: AllocationProblem
    ) -> dict[str, Any]:
        """Write what the agent has learned, if there is one; entries of the summary."""
        from agents import GoalSearch
        from ws_learner.search.after_search import leave_policy

        if not isinstance(proposer, GoalSearch):
            return {}
        return leave_policy(
            proposer,
            history,
            problem=problem,
            model=self.model,
            config=self.config,
            rewarded=self.evaluator().rewarded(),
            run=self.run,
        )

    def _choose(self, history: Sequence[Rollout]) -> tuple[IntArray, int]:
        """Re-score the best few on the select split, to avoid the winner's curse.

        Returns:
            Zero counts, and the number of profiles that could not be scored again.
        """
        finalists = distinct_best(history, self.config.ws_nb_rescore)
        if len(finalists) <= 1:
            return best(history).zeros, 0
        with self.pool(self.evaluator().on(self.data.select)) as pool:
            scores = pool.evaluate([rollout.zeros for rollout in finalists])
        again = [
            Rollout(kind="select", zeros=rollout.zeros, score=score)
            for rollout, score in zip(finalists, scores, strict=True)
        ]
        table = frame([*history, *again], self.layers)
        write_text(self.run.rollouts, table.to_csv(index=False))
        refuse_failures(again, self.layers, split="select")
        say_failures(again, split="select")
        return best(again).zeros, count_failed(again)


def database_dir() -> Path:
    """Folder of the layer databases, shared by all runs: WS_DATA_DIR or the user's cache."""
    return Path(os.environ.get("WS_DATA_DIR") or Path.home() / ".cache" / "ws_learner") / "layers"
