"""A tiny convolutional network whose learner has a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner import WeightSparseConfig, WeightSparseLearner
from ws_learner.config import Recipe
from ws_learner.search import Allocation

SEARCH = {"ws_nb_rlouts": 12, "ws_nb_rlouts_min": 3, "ws_nb_jitters": 0}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3)),
    )


def learner(tmp: Path, **settings: Any) -> WeightSparseLearner:
    torch.manual_seed(1)
    inputs = torch.randn(300, 1, 6, 6)
    data = torch.utils.data.TensorDataset(inputs, (inputs.mean((1, 2, 3)) > 0).long())

    def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).float()

    return WeightSparseLearner(
        network(),
        data,
        loss=nn.functional.cross_entropy,
        metric=accuracy,
        recipe=Recipe(nb_epochs=1),
        run_dir=tmp,
        workers=0,
        config=WeightSparseConfig(**settings),
    )


def kept(found: Allocation, made: WeightSparseLearner, *, unit: str) -> tuple[float, float]:
    """What is kept in a unit, and the dense network's, counted from the layer table alone."""
    rows = made.layers()
    prices = [1.0 if unit == "params" else row.macs / row.weights for row in rows]
    sizes = np.array([row.weights for row in rows])
    return float(prices @ (sizes - found.zeros)), float(prices @ sizes)
