"""A small network, data and evaluator for the rollout tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.problem import IntArray, LayerRow
from ws_learner.config.rollout import RolloutConfig
from ws_learner.data.arrays import ArraySplit
from ws_learner.data.splits import DataSplits
from ws_learner.pruning.layers.table import layer_table
from ws_learner.search.rollout.evaluator import RolloutEvaluator

CLASSES = 4
SIDE = 8


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float()


def tiny_network() -> nn.Sequential:
    """Dense, strided, depthwise and pointwise convolutions, batch norm, dropout and a head."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(48, CLASSES),
    )


def tiny_data(seed: int = 0) -> DataSplits:
    """Classes differ by the colour of one corner, with noise."""

    def part(number: int, examples: int) -> ArraySplit:
        rng = np.random.default_rng([seed, number])
        labels = rng.integers(0, CLASSES, size=examples)
        images = rng.integers(0, 200, size=(examples, SIDE, SIDE, 3))
        images[np.arange(examples), :4, :4, labels % 3] += 55 * (labels < 3)[:, None, None]
        images[labels == 3, 4:, 4:] += 55
        return ArraySplit(
            images.astype(np.uint8), labels, mean=(0.4,) * 3, std=(0.25,) * 3, padding=0
        )

    return DataSplits(
        name="tiny",
        digest=f"tiny {seed}",
        num_classes=CLASSES,
        input_shape=(3, SIDE, SIDE),
        train=part(0, 256),
        search=part(1, 100),
        select=part(2, 60),
        test=part(3, 40),
    )


def trained_network(data: DataSplits) -> nn.Module:
    """A few epochs of Adam: better than chance, with real running statistics."""
    torch.manual_seed(0)
    model = tiny_network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(6):
        for inputs, targets in data.train.batches(32, seed=epoch):
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    return model.eval()


def table_of(model: nn.Module) -> tuple[LayerRow, ...]:
    return layer_table(model, torch.zeros(2, 3, SIDE, SIDE))


def small_config(**changes: Any) -> RolloutConfig:
    settings: dict[str, Any] = {
        "batch_size": 32,
        "batch_size_ft": 32,
        "batch_size_eval": 25,
        "nb_smpls_rg": 64,
        "nb_smpls_bn": 64,
        "nb_iters_feval": 2,
        "levels": (0.0, 0.5, 0.9),
    }
    return RolloutConfig(**settings | changes)


def tiny_evaluator(cache_dir: Path | None = None, **changes: Any) -> RolloutEvaluator:
    data = tiny_data()
    model = trained_network(data)
    return RolloutEvaluator(
        model,
        data,
        layers=table_of(model),
        loss=functional.cross_entropy,
        metric=accuracy,
        config=small_config(**changes),
        seed=0,
        cache_dir=cache_dir,
        device="cpu",
    )


def counts(layers: tuple[LayerRow, ...], ratio: float) -> IntArray:
    return np.array([round(ratio * row.weights) for row in layers], dtype=np.int64)
