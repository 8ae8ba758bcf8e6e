"""A network of a few thousand weights on noise: rollouts of milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ws_learner.config import WeightSparseConfig

if TYPE_CHECKING:
    from benchmarks.cifar_task import Task
    from ws_learner.search import RolloutEvaluator

__all__ = ["build_small_task", "small_evaluator", "small_settings"]

_SIDE, _CLASSES, _WIDTH = 8, 4, 8


def build_small_task(*, seed: int = 0) -> Task:
    """Six layers with random weights, and random images of 8 x 8."""
    import numpy as np
    import torch
    from torch import nn

    from benchmarks.cifar_task import build_task
    from experiments.experiment import Experiment, classification
    from ws_learner.config import Recipe
    from ws_learner.data import ArraySplit, DataSplits

    def part(number: int, examples: int) -> ArraySplit:
        rng = np.random.default_rng([seed, number])
        images = rng.integers(0, 256, size=(examples, _SIDE, _SIDE, 3), dtype=np.uint8)
        labels = rng.integers(0, _CLASSES, size=examples)
        return ArraySplit(images, labels, mean=(0.5,) * 3, std=(0.25,) * 3, padding=0)

    torch.manual_seed(seed)
    inner = [(3, _WIDTH, 1), (_WIDTH, _WIDTH, 1), (_WIDTH, 2 * _WIDTH, 2), (2 * _WIDTH,) * 2 + (1,)]
    parts: list[nn.Module] = []
    for width, outputs, stride in inner:
        parts += [nn.Conv2d(width, outputs, 3, stride=stride, padding=1), nn.ReLU()]
    flat, head = 2 * _WIDTH * (_SIDE // 2) ** 2, nn.Linear(32, _CLASSES)
    head.weight.data.mul_(50)  # else all outputs are alike, and pruning changes nothing
    parts += [nn.Flatten(), nn.Linear(flat, 32), nn.ReLU(), head]
    recipe = Recipe(nb_epochs=1, batch_size=32)
    loss, metric = classification(recipe)
    data = DataSplits(
        name="small noise",
        digest=f"small noise {seed}",
        num_classes=_CLASSES,
        input_shape=(3, _SIDE, _SIDE),
        train=part(0, 128),
        search=part(1, 64),
        select=part(2, 64),
        test=part(3, 64),
    )
    return build_task(
        Experiment(
            name="small",
            model=nn.Sequential(*parts).eval(),
            data=data,
            loss=loss,
            metric=metric,
            dense_recipe=recipe,
            sparse_recipe=recipe,
        )
    )


def small_settings(protocol: str, **changes: Any) -> WeightSparseConfig:
    """Settings of a search: the usual ones, with fewer examples and no patience."""
    usual: dict[str, Any] = {
        "ws_prune_ratio": 0.8,
        "ws_prune_ratio_prtl": protocol,
        "ws_patience": 0,
        "ws_nb_smpls_rg": 64,
        "ws_nb_smpls_bn": 64,
        "ws_nb_smpls_slope": 32,
        "ws_nb_smpls_own": 32,
        "ws_nb_iters_feval": 1,
    }
    return WeightSparseConfig(**usual | changes)


def small_evaluator(task: Task, config: WeightSparseConfig, *, seed: int = 0) -> RolloutEvaluator:
    """Evaluator of candidates whose layer database stays in memory."""
    from ws_learner.search import RolloutEvaluator, build_rollout_config

    found = task.experiment
    return RolloutEvaluator(
        found.model, found.data, layers=task.layers, loss=found.loss, metric=found.metric,
        config=build_rollout_config(config), seed=seed, cache_dir=None, device="cpu",
    )  # fmt: skip
