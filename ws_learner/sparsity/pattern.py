"""Patterns: which weights live or die together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ws_learner.sparsity.mask import keep_largest

__all__ = ["Pattern", "Unstructured"]


class Pattern(Protocol):
    """Turns the scores of single weights into a mask."""

    def mask(self, score: Tensor, zeros: int) -> Tensor:
        """Return a bool mask of the score's shape, True = kept, with `zeros` entries False."""


@dataclass(frozen=True)
class Unstructured:
    """Every weight stands alone."""

    def mask(self, score: Tensor, zeros: int) -> Tensor:
        """Keep the largest scores; see `keep_largest`."""
        return keep_largest(score, zeros)
