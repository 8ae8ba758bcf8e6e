"""The choice of the next token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ws_learner.core import UserError
from ws_learner.deploy.decode.numbers import Floats

__all__ = ["Sampling", "draw_token", "kept_weights"]


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


def draw_token(logits: Floats, sampling: Sampling, share: float) -> int:
    """The token at a share of the probability that `sampling` leaves; needs a temperature.

    This is the definition that the kernel is tested against. Tokens are in the order of their
    numbers. All that are as likely as the last one left are left, too.

    Args:
        logits: (vocabulary,).
        sampling: Its seed is not looked at.
        share: From 0 up to and without 1.
    """
    weights = kept_weights(logits, sampling)
    place = int(np.searchsorted(np.cumsum(weights), share * weights.sum(), side="right"))
    return min(place, int(np.flatnonzero(weights)[-1]))


def kept_weights(logits: Floats, sampling: Sampling) -> npt.NDArray[np.float64]:
    """(vocabulary,) exp((logit - largest) / temperature), 0 for tokens that are left out."""
    scaled = (logits.astype(np.float64) - logits.max()) / sampling.temperature
    weights: npt.NDArray[np.float64] = np.exp(scaled)
    if 0 < sampling.top_k < len(logits):
        weights[logits < np.partition(logits, -sampling.top_k)[-sampling.top_k]] = 0
    if sampling.top_p < 1:
        order = np.sort(weights)[::-1]
        before = np.cumsum(order) - order
        weights[weights < order[before < sampling.top_p * order.sum()].min(initial=order[0])] = 0
    return weights
