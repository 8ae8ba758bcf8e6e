"""Random weights with zeros of a pattern: what a layer's speed is measured with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.pruning import (
    NM,
    BlockPattern,
    ByRole,
    ChannelPattern,
    Pattern,
    PerLayerNM,
    Unstructured,
    parse_pattern,
)

__all__ = ["DENSITIES", "layer_pattern", "random_weight", "zero_counts"]

DENSITIES = (0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02)
"""Shares of nonzero weights at which layers are measured; dense is measured in any case."""


def layer_pattern(text: str) -> Pattern:
    """The pattern of a choice, one that a layer can have by itself.

    Raises:
        UserError: It is no pattern, or one of several layers together.
    """
    pattern = parse_pattern(text)
    alone = BlockPattern | NM | PerLayerNM | ChannelPattern | Unstructured
    if not isinstance(pattern, alone) or isinstance(pattern, ByRole):
        raise UserError(
            f"`pattern` {text}: goes across layers, so that no layer has a cost of its own; "
            "allowed here are unstructured, blocks such as 4x1, N:M and channels"
        )
    return pattern


def zero_counts(
    pattern: Pattern, shape: tuple[int, ...], densities: tuple[float, ...]
) -> list[int]:
    """Zeros that whole units make, nearest to each density, ascending and without repeats."""
    size = math.prod(shape)
    found = {pattern.feasible(shape, round((1 - d) * size)) for d in densities}
    return sorted(found - {0})


def random_weight(shape: tuple[int, ...], pattern: Pattern, zeros: int, *, seed: int = 0) -> Tensor:
    """Normal values of a linear layer's usual size, `zeros` of them zero in random units."""
    draw = torch.Generator().manual_seed(seed)
    values: Tensor = torch.randn(shape, generator=draw) * max(math.prod(shape[1:]), 1) ** -0.5
    values[values == 0] = 1e-3
    if not zeros:
        return values
    masked: Tensor = values * pattern.mask(torch.rand(shape, generator=draw), zeros)
    return masked
