"""An engine of known speed in place of a clock, and a learner that measures with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from envs import LayerRow
from ws_learner import WeightSparseConfig, WeightSparseLearner
from ws_learner.config import Budget, Recipe
from ws_learner.core import LayerChoice
from ws_learner.pruning import parameter_of

SPEED = {"unstructured": 0.9, "4x1": 0.6, "4x4": 0.4, "16x4": 0.35, "2:4": 0.8}
"""Time of a weight that is not zero, over that of a weight of a dense layer."""


class Engine:
    """Runs a layer in `weights` microseconds, sparse ones faster by pattern and format."""

    unit, digest, overhead = "latency@wsr", "known", 0.05

    def __init__(self, *, off: float) -> None:
        self.off, self.layers = off, tuple[LayerRow, ...]()
        self.measured: list[float] = []

    def check(self, budgets: Sequence[Budget], *, patterns: Sequence[str]) -> None:
        assert budgets
        assert patterns

    def table(
        self,
        budget: Budget,
        layers: Sequence[LayerRow],
        choices: Sequence[Sequence[LayerChoice]],
    ) -> Engine:
        assert all(own[0].zeros == 0 for own in choices)
        self.layers = tuple(layers)
        return self

    def cost(self, layer: int, choice: LayerChoice) -> float:
        row = self.layers[layer]
        density = 1 - choice.zeros / row.weights
        sparse = 0.02 + SPEED[choice.pattern] * density if choice.zeros else 1.0
        return 1e-3 * row.weights * min(sparse, 1.0) * (0.4 if choice.dtype == "int8" else 1.0)

    def dense(self, budget: Budget) -> float:
        return self.off * (self.overhead + sum(1e-3 * row.weights for row in self.layers))

    def pace(self, budget: Budget, *, earlier: float | None = None) -> float | None:
        return None if budget.kind != "latency" else earlier or self.dense(budget)

    def compiled(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> nn.Module:
        assert "int8" in {choice.dtype for choice in choices.values()}
        return nn.Sequential(network, nn.Identity())

    def measure(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> float:
        cost = self.overhead
        for layer, row in enumerate(self.layers):
            choice = choices[row.name]
            zeros = int((parameter_of(network, row.name) == 0).sum())
            assert zeros >= choice.zeros  # more where bytes round small weights to 0
            cost += self.cost(layer, choice)
        self.measured.append(self.off * cost)
        return self.measured[-1]


def learner(tmp: Path, engine: Engine, **settings: Any) -> WeightSparseLearner:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    )
    inputs = torch.randn(240, 32)
    data = torch.utils.data.TensorDataset(inputs, inputs[:, :4].argmax(1))

    def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).float()

    made = WeightSparseLearner(
        net,
        data,
        loss=nn.functional.cross_entropy,
        metric=accuracy,
        recipe=Recipe(nb_epochs=1),
        run_dir=tmp,
        workers=0,
        config=WeightSparseConfig(**settings),
    )
    made._costs = lambda: engine  # type: ignore[method-assign]
    return made
