"""What a search with an agent leaves behind: its policy, the critic's record, the frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from agents import GoalSearch, critic_record
from envs import AllocationProblem
from ws_learner.config import NAMED_RATIOS, WeightSparseConfig
from ws_learner.core import RunDir, say, state_digest
from ws_learner.search.context import Restatement
from ws_learner.search.goal_frontier import frontier_targets, measure_frontier
from ws_learner.search.history import Rollout
from ws_learner.search.policy_file import SavedPolicy, write_policy

__all__ = ["leave_policy"]


def leave_policy(
    proposer: GoalSearch,
    history: Sequence[Rollout],
    *,
    problem: AllocationProblem,
    model: nn.Module,
    config: WeightSparseConfig,
    rewarded: str,
    run: RunDir,
    restated: Restatement | None = None,
) -> dict[str, Any]:
    """Write `policy.safetensors` and, with `ws_goals`, `frontier.csv`; say how good the critic was.

    Args:
        proposer: The search's agent and critic, as they are after the last round.
        history: All rollouts.
        problem: The problem at the run's target; its `evaluate` scores the frontier.
        model: The dense network.
        config: Settings of the run.
        rewarded: What the reward measured.
        run: The run directory.
        restated: Where the problem is in units of cost.

    Returns:
        Entries of the summary: `critic`, `frontier_rollouts`.
    """
    proposer.learn(history)
    policy = proposer.policy
    saved = SavedPolicy(
        layers=problem.layers,
        network=state_digest(model),
        target=problem.target,
        goals=config.goal_range or (problem.target, problem.target),
        targets=policy.targets or (problem.target,),
        score_power=problem.score_power,
        by_divergence=problem.by_divergence,
        rewarded=rewarded,
        bounds=_bounds(config),
        pattern=config.pattern_spelling,
        curve_ratios=problem.curve_ratios,
        curves=problem.curves,
        own_densities=problem.own_densities,
        own=problem.own,
        seen=policy.seen,
        actor=policy.actor_state(),
        unit="params" if restated is None else restated.unit,
    )
    write_policy(run.policy, saved)
    facts: dict[str, Any] = {}
    record = critic_record(proposer.forecasts, history, problem)
    if record is not None:
        say(_sentence(record))
        facts["critic"] = record
    if config.goal_range is not None:
        facts["frontier_rollouts"] = measure_frontier(
            policy,
            problem,
            frontier_targets(config.goal_range, problem.target),
            path=run.frontier,
            per_round=config.ws_rlouts_per_round,
            shown=None if restated is None else restated.zeros,
        )
    return facts


_BOUNDS = ("ws_ratio_bounds", "ws_ratio_min", "ws_ratio_max")


def _bounds(config: WeightSparseConfig) -> dict[str, Any]:
    named = {name: dict(config.named_ratios(name)) for name in NAMED_RATIOS}
    return {name: getattr(config, name) for name in _BOUNDS} | {k: v for k, v in named.items() if v}


def _sentence(record: Mapping[str, Any]) -> str:
    related = record["correlation"]
    return (
        f"critic: ln(divergence) of {record['rollouts']} unseen rollouts predicted within "
        f"{record['rmse']:.3f} (rmse)"
        + (f", correlation {related:.2f}" if related is not None else "")
        + f"; {record['within_1']:.0%} and {record['within_2']:.0%} within one and two deviations"
    )
