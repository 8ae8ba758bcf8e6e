"""Criteria: how much a weight matters. The smallest scores are pruned."""

from __future__ import annotations

from torch import Tensor

__all__ = ["magnitude"]


def magnitude(weight: Tensor) -> Tensor:
    """Score every weight by its absolute value (Han et al. 2015, section 3)."""
    return weight.detach().abs()
