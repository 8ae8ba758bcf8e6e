"""A network with its data, as the search benchmarks use it; ResNet-20 on CIFAR-10 by default."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ws_learner.config import WeightSparseConfig

if TYPE_CHECKING:
    from envs import LayerRow
    from experiments.experiment import Experiment
    from ws_learner.search import AllocationContext, RolloutEvaluator

__all__ = ["WEIGHTS", "Task", "build_task", "cores", "load_task"]


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
            wanda_scores=evaluator.wanda_scores,
            own=evaluator.own_divergences,
        )


_CHECKPOINTS = Path(__file__).parents[1] / "experiments" / "checkpoints"
WEIGHTS = _CHECKPOINTS / "resnet20_at_cifar10.safetensors"
"""The dense network of all recorded tables: 89.41 %, older than the one that runs start from."""


@cache
def load_task() -> Task:
    """Load data and weights; once per process."""
    from experiments.resnet_at_cifar10 import Options, build

    return build_task(build(Options(), seed=0), WEIGHTS)


def build_task(
    experiment: Experiment, weights: Path | None = None, *, include: Sequence[str] | None = None
) -> Task:
    """Load dense weights into the experiment and list its layers.

    Args:
        experiment: Network and data.
        weights: File or run of the dense weights; None keeps those of the network.
        include: The layers, as in `layer_table`; None takes all that can be pruned.
    """
    from experiments.cli.dense_weights import load_weights
    from ws_learner.pruning import layer_table

    if weights is not None:
        load_weights(experiment.model, weights)
    example, _ = next(experiment.data.train.batches(2))
    settings = WeightSparseConfig()
    layers = layer_table(
        experiment.model,
        example,
        include=settings.ws_include if include is None else include,
        exclude=settings.ws_exclude,
        exempt=settings.ws_exempt,
    )
    return Task(experiment, layers)


def cores() -> int:
    """Processes that fit this machine, one thread each."""
    return os.cpu_count() or 1
