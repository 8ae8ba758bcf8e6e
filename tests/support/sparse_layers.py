"""Sparse matrices and networks for tests of the CPU runtime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ws_learner.pruning.patterns.pattern import parse_pattern

__all__ = ["block_matrix", "pruned"]


def block_matrix(
    rng: np.random.Generator, shape: tuple[int, int], block: tuple[int, int], density: float
) -> npt.NDArray[np.float32]:
    """Random (N, K) of whole blocks; rows of blocks differ in how full they are, some are empty."""
    down, along = -(-shape[0] // block[0]), -(-shape[1] // block[1])
    share = np.clip(density * rng.uniform(0, 2, (down, 1)), 0, 1)
    share[rng.random(down) < 0.1] = 0
    if density in {0, 1}:
        share[:] = density
    live = np.kron(rng.random((down, along)) < share, np.ones(block, bool))
    weight = rng.standard_normal(shape) * live[: shape[0], : shape[1]]
    return weight.astype(np.float32)


def pruned(model: nn.Module, pattern: str, ratio: float) -> nn.Module:
    """Zero the smallest units of every linear layer and convolution."""
    units = parse_pattern(pattern)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                weight = module.weight
                zeros = units.feasible(tuple(weight.shape), round(ratio * weight.numel()))
                weight.mul_(units.mask(weight.abs(), zeros))
    return model.eval()
