"""The search as a gymnasium environment, for agents of the user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from envs import IntArray, PruningEnv, Score, register
from ws_learner.config import WeightSparseConfig
from ws_learner.data import DataSplits
from ws_learner.pruning import fitting_rows, layer_table, parse_pattern
from ws_learner.search.problem import build_pruning_problem, build_rollout_config
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.training import Loss, Metric

__all__ = ["make_pruning_env"]


def make_pruning_env(
    model: nn.Module,
    data: DataSplits,
    *,
    loss: Loss,
    metric: Metric,
    target: float,
    config: WeightSparseConfig | None = None,
    seed: int = 0,
    cache_dir: Path | None = None,
) -> PruningEnv:
    """An environment in which one episode is one rollout; any gymnasium agent can learn on it.

    Args:
        model: The dense network; it is not changed.
        data: `train` calibrates and fine-tunes, `search` scores.
        loss: (outputs, targets) -> scalar.
        metric: (outputs, targets) -> (B,) scores in [0, 1].
        target: Overall prune ratio, in (0, 1).
        config: Everything else; its `ws_prune_ratio` gives way to `target`.
        seed: Fixes which images score the rollouts.
        cache_dir: Folder in which the layer database is kept; None keeps it in memory.

    Raises:
        UserError: The target cannot be met, or no layer can be pruned.
    """
    settings = dataclasses.replace(config or WeightSparseConfig(), ws_prune_ratio=target)
    example, _ = next(data.train.batches(2))
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
    )

    def evaluate(candidates: Sequence[IntArray]) -> list[Score]:
        return [evaluator.score(zeros) for zeros in candidates]

    register()  # from here on gymnasium.make knows the class as ws/Pruning-v0
    return PruningEnv(build_pruning_problem(evaluator, settings, evaluate=evaluate))
