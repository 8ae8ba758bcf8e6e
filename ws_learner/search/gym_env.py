"""The ratio search as a Gymnasium environment, for custom agents."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import nn

from envs import IntArray, OffsetMap, PruningEnv, Score, Spend, register
from ws_learner.config import WeightSparseConfig
from ws_learner.core import AnyPath, OutputKind, UserError, as_path
from ws_learner.data import as_splits
from ws_learner.pruning import fitting_rows, layer_table, parse_pattern
from ws_learner.search.problem import build_goal_problems, build_rollout_config
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.training import Loss, Metric, check_task, first_batch

__all__ = ["make_pruning_env"]


def make_pruning_env(
    model: nn.Module,
    data: Any,
    *,
    loss: Loss,
    metric: Metric,
    target: float,
    config: WeightSparseConfig | None = None,
    seed: int = 0,
    cache_dir: AnyPath | None = None,
    outputs: OutputKind | None = None,
    goal_conditioned: bool = False,
) -> PruningEnv:
    """Build an environment with one rollout per episode, for any Gymnasium agent.

    Args:
        model: The dense network; it is not changed.
        data: `DataSplits`, or data as `as_splits` takes them: `train` for calibration and
            fine-tuning, `search` for scoring.
        loss: (outputs, targets) -> scalar.
        metric: (outputs, targets) -> (B,) scores in [0, 1], or a `MetricSpec`.
        target: Overall prune ratio, in (0, 1).
        config: All other settings; `target` replaces its `ws_prune_ratio`.
        seed: Seed of the draw of images that score rollouts.
        cache_dir: Folder of the layer database; None keeps it in memory.
        outputs: What the outputs mean; None takes what the data say, or infers it.
        goal_conditioned: The environment of `GoalDDPG`: actions are offsets from the prior, the
            budget is met at the last step, and rollouts measure slopes.

    Raises:
        UserError: The target cannot be met, no layer can be pruned, the metric or what the outputs
            mean does not fit, or a goal-conditioned environment has no fixed total.
    """
    cache_dir = None if cache_dir is None else as_path(cache_dir, name="cache_dir")
    settings = dataclasses.replace(config or WeightSparseConfig(), ws_prune_ratio=target)
    if goal_conditioned and settings.ws_reward_type != "single-obj":
        raise UserError(
            f"`ws_reward_type` {settings.ws_reward_type}: a goal-conditioned environment needs "
            "single-obj, whose total is the target"
        )
    if goal_conditioned:
        settings = dataclasses.replace(settings, ws_prune_ratio_prtl="optimal")
    data = as_splits(data, seed=seed)
    example, _ = first_batch(data, 2)
    outputs = check_task(
        model,
        data,
        loss=loss,
        metric=metric,
        outputs=outputs,
        compares=settings.ws_reward_signal == "kl",
    )
    layers = layer_table(
        model,
        example,
        include=settings.ws_include,
        exclude=settings.ws_exclude,
        exempt=settings.ws_exempt,
    )
    pattern = parse_pattern(settings.pattern_spelling)
    layers = fitting_rows(model, layers, pattern=pattern, remainder=settings.ws_remainder)
    evaluator = RolloutEvaluator(
        model,
        data,
        layers=layers,
        loss=loss,
        metric=metric,
        config=build_rollout_config(settings),
        seed=seed,
        cache_dir=cache_dir,
        outputs=outputs,
    )

    def evaluate(candidates: Sequence[IntArray]) -> list[Score]:
        return [evaluator.score(zeros) for zeros in candidates]

    register()  # makes ws/Pruning-v0 available to gymnasium.make
    goals = build_goal_problems(evaluator, settings, evaluate=evaluate)
    make_map = OffsetMap.of if goal_conditioned else None
    spend: Spend = "last step" if goal_conditioned else "each step"
    return PruningEnv(goals(target), make_map, spend=spend, goals=goals)
