"""The choice of the next token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ws_learner.core import UserError
from ws_learner.deploy.decode.numbers import Floats

__all__ = ["Sampling", "draw_token"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: Logits are divided by this; 0 takes the largest.
        top_k: Only so many of the most likely; 0 for all.
        top_p: Only the most likely whose probabilities sum up to this (Holtzman et al. 2020).
        seed: Of the draws.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: A value is out of range.
        """
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"temperature={self.temperature}: give 0 or more")
        if self.top_k < 0:
            raise UserError(f"top_k={self.top_k}: give 0 (all) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p}: give more than 0, up to 1")
        if self.seed < 0:
            raise UserError(f"seed={self.seed}: give 0 or more")


def draw_token(logits: Floats, sampling: Sampling, draw: np.random.Generator) -> int:
    """A token by its probability among those that `sampling` leaves; needs a temperature."""
    count = len(logits)
    kept = np.arange(count)
    if 0 < sampling.top_k < count:
        kept = np.sort(np.argpartition(logits, count - sampling.top_k)[-sampling.top_k :])
    scaled = logits[kept].astype(np.float64) / sampling.temperature
    weights = np.exp(scaled - scaled.max())
    weights /= weights.sum()
    if sampling.top_p < 1:
        order = np.argsort(-weights, kind="stable")
        before = np.cumsum(weights[order]) - weights[order]
        order = order[before < sampling.top_p]  # the first stays in any case
        kept, weights = kept[order], weights[order] / weights[order].sum()
    place = int(np.searchsorted(np.cumsum(weights), draw.random(), side="right"))
    return int(kept[min(place, len(kept) - 1)])
