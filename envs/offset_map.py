"""Offset map: an action in [-1, 1] to a factor on a layer's prior density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from envs.problem import AllocationProblem, FloatArray

__all__ = ["OffsetMap"]


@dataclass(frozen=True, kw_only=True, eq=False)
class OffsetMap:
    """density = prior density x e^(-reach x action), within the layer's bounds.

    Action 0 is the prior, and a positive action prunes more. Unlike in `ActionMap` an action means
    the same in every layer, so that one actor can serve all layers and several networks.

    Attributes:
        lower: (L,) least prune ratio of each layer, in [0, 1].
        prior: (L,) prune ratio that action 0 stands for.
        upper: (L,) most prune ratio of each layer, in [0, 1].
        empty: (L,) density that stands for an empty layer, half a weight's.
        reach: Largest change of ln(density).
    """

    lower: FloatArray
    prior: FloatArray
    upper: FloatArray
    empty: FloatArray
    reach: float = 1.5

    @classmethod
    def of(cls, problem: AllocationProblem, *, reach: float = 1.5) -> Self:
        """Build the map of a problem from its bounds and prior."""
        weights = problem.weights
        return cls(
            lower=problem.lower / weights,
            prior=problem.prior / weights,
            upper=problem.upper / weights,
            empty=0.5 / weights,
            reach=reach,
        )

    @property
    def base(self) -> FloatArray:
        """(L,) ln of the prior densities."""
        base: FloatArray = np.log(np.maximum(1 - self.prior, self.empty))
        return base

    def ratio(self, action: float, layer: int) -> float:
        """Return the prune ratio of an action in [-1, 1] in a layer."""
        if action == 0.0:
            return float(self.prior[layer])
        bounded = min(max(float(action), -1.0), 1.0)
        density = float(np.exp(self.base[layer] - self.reach * bounded))
        return float(np.clip(1 - density, self.lower[layer], self.upper[layer]))

    def action(self, ratio: float, layer: int) -> float:
        """Return the action of a prune ratio; -1 or 1 if it is out of reach."""
        density = max(1 - ratio, self.empty[layer])
        offset = (self.base[layer] - np.log(density)) / self.reach
        return float(np.clip(offset, -1.0, 1.0))
