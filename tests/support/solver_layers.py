"""Random layers whose inputs are correlated and of unequal size, as those of language models."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tests.support.layer_solver_papers import Array


def random_layer(rows: int, columns: int, *, tokens: int = 0, seed: int = 0) -> tuple[Array, Array]:
    """Weight (rows, columns) and inputs (tokens, columns); 4 tokens an input unless given."""
    draw = np.random.default_rng(seed)
    mixing = draw.normal(size=(columns, columns)) / np.sqrt(columns) + np.eye(columns)
    sizes = np.exp(draw.normal(size=columns))
    inputs = draw.normal(size=(tokens or 4 * columns, columns)) @ mixing * sizes
    return draw.normal(size=(rows, columns)), inputs


def tensors(weight: Array, inputs: Array) -> tuple[Tensor, Tensor]:
    """Weight and Gram matrix as solvers take them."""
    return torch.tensor(weight).float(), torch.tensor(inputs.T @ inputs).float()


def loss(weight: Array, other: Tensor, inputs: Array, *, damping: float = 0.0) -> float:
    """Squared error of the outputs, and damping x the mean of ||x_j||^2 x that of the weights."""
    change = weight - other.double().numpy()
    level = damping * float((inputs**2).sum(0).mean())
    return float(((inputs @ change.T) ** 2).sum() + level * (change**2).sum())
