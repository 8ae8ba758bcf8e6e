"""Three small trained networks, and evaluators whose rollouts have slopes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.budget import count_bounds, project
from envs.problem import AllocationProblem
from tests.support.digits import digits_splits
from tests.support.rollout_parts import accuracy
from ws_learner.config.rollout import RolloutConfig
from ws_learner.pruning.layers.table import layer_table
from ws_learner.search.rollout.evaluator import RolloutEvaluator


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 96),
        nn.ReLU(),
        nn.Linear(96, 64),
        nn.ReLU(),
        nn.Linear(64, 48),
        nn.ReLU(),
        nn.Linear(48, 10),
    )


class Rows(nn.Module):
    """A transformer that reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(8, 24)
        self.places = nn.Parameter(torch.randn(8, 24) * 0.3)
        layer = nn.TransformerEncoderLayer(24, 4, 48, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.into(images.squeeze(1)) + self.places
        result: Tensor = self.out(self.encoder(rows).mean(1))
        return result


NETS = {"conv": conv_net, "mlp": mlp, "transformer": Rows}
_EPOCHS = {"conv": 5, "mlp": 12, "transformer": 12}


@cache
def trained(kind: str) -> nn.Module:
    torch.manual_seed(0)
    model = NETS[kind]()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(_EPOCHS[kind]):
        for inputs, targets in digits_splits().train.batches(50, seed=epoch):
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    return model.eval()


def slope_evaluator(
    model: nn.Module,
    *,
    cache_dir: Path | None = None,
    seed: int = 0,
    metric: Callable[[Tensor, Tensor], Tensor] = accuracy,
    **changes: Any,
) -> RolloutEvaluator:
    settings: dict[str, Any] = {
        "nb_smpls_slope": 200,
        "nb_iters_feval": 0,
        "nb_smpls_rg": 400,
        "nb_smpls_bn": 400,
        "batch_size": 100,
        "score_power": 1.0,
        "levels": (0.0, 0.5, 0.8, 0.95),
    }
    return RolloutEvaluator(
        model,
        digits_splits(),
        layers=layer_table(model, torch.zeros(2, 1, 8, 8)),
        loss=functional.cross_entropy,
        metric=metric,
        config=RolloutConfig(**settings | changes),
        seed=seed,
        cache_dir=cache_dir,
        device="cpu",
    )


def real_problem(evaluator: RolloutEvaluator, *, target: float) -> AllocationProblem:
    """The problem of an evaluator, without exemptions; its prior is the uniform profile."""
    sizes = np.array([row.weights for row in evaluator.layers], np.int64)
    lower, upper = count_bounds(0.0, 0.995, sizes)
    budget = round(target * int(sizes.sum()))
    (ratios, curves), own = evaluator.curves(), evaluator.own_divergences()
    return AllocationProblem(
        layers=evaluator.layers,
        target=target,
        lower=lower,
        upper=upper,
        prior=project(sizes * target, budget=budget, lower=lower, upper=upper, weights=sizes),
        curve_ratios=ratios,
        curves=curves,
        evaluate=lambda candidates: [evaluator.score(zeros) for zeros in candidates],
        own_densities=None if own is None else own[0],
        own=None if own is None else own[1],
        score_power=evaluator.config.score_power,
        by_divergence=True,
    )
