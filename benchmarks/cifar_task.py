"""ResNet-20 on CIFAR-10 with its committed dense weights, as the search benchmarks use it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ws_learner.config import WeightSparseConfig

if TYPE_CHECKING:
    from envs import LayerRow
    from experiments.experiment import Experiment
    from ws_learner.search import AllocationContext, RolloutEvaluator

__all__ = ["WEIGHTS", "Task", "cores", "load_task"]


@dataclass(frozen=True, eq=False)
class Task:
    """Network, data and layer table.

    Attributes:
        experiment: With the dense weights loaded.
        layers: Its layer table.
    """

    experiment: Experiment
    layers: tuple[LayerRow, ...]

    def evaluator(self, config: WeightSparseConfig, *, seed: int = 0) -> RolloutEvaluator:
        """Rollout evaluator under these settings."""
        from ws_learner.search import RolloutEvaluator, build_rollout_config, database_dir

        return RolloutEvaluator(
            self.experiment.model,
            self.experiment.data,
            layers=self.layers,
            loss=self.experiment.loss,
            metric=self.experiment.metric,
            config=build_rollout_config(config),
            seed=seed,
            cache_dir=database_dir(),
        )

    def context(self, config: WeightSparseConfig, evaluator: RolloutEvaluator) -> AllocationContext:
        """Inputs of the cheap protocols."""
        from ws_learner.search import allocation_context

        return allocation_context(
            self.experiment.model,
            self.layers,
            config,
            curves=evaluator.curves,
            own=evaluator.own_divergences,
        )


_CHECKPOINTS = Path(__file__).parents[1] / "experiments" / "checkpoints"
WEIGHTS = _CHECKPOINTS / "resnet20_at_cifar10.safetensors"
"""The dense network of all recorded tables: 89.41 %, older than the one that runs start from."""


@cache
def load_task() -> Task:
    """Load data and weights; once per process."""
    from experiments.cli.dense_weights import load_weights
    from experiments.resnet_at_cifar10 import Options, build
    from ws_learner.pruning import layer_table

    experiment = build(Options(), seed=0)
    load_weights(experiment.model, WEIGHTS)
    example, _ = next(experiment.data.train.batches(2))
    settings = WeightSparseConfig()
    layers = layer_table(
        experiment.model,
        example,
        include=settings.ws_include,
        exclude=settings.ws_exclude,
        exempt=settings.ws_exempt,
    )
    return Task(experiment, layers)


def cores() -> int:
    """Processes that fit this machine, one thread each."""
    return os.cpu_count() or 1
