"""Action map: an action in [-1, 1] to a layer's prune ratio, and the inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, Self

import numpy as np

from envs.problem import AllocationProblem, FloatArray

__all__ = ["ActionMap", "Scale", "ToRatio"]

Scale = Literal["log-density", "linear"]


class ToRatio(Protocol):
    """What an episode needs of an action map."""

    def ratio(self, action: float, layer: int) -> float:
        """Return the prune ratio of an action in [-1, 1] in a layer."""

    def action(self, ratio: float, layer: int) -> float:
        """Return the action of a prune ratio; -1 or 1 beyond the ends."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ActionMap:
    """Fixed monotone map per layer, piecewise linear through three points.

    | action | prune ratio |
    |---|---|
    | -1 | `lower` |
    | 0 | `prior` |
    | +1 | `upper` |

    Between them it is linear in log-density (log of the share of weights kept; 95 and 97.5 % are
    as far apart as 50 and 75 %) or in the ratio itself, as in PocketFlow. If two of the points
    coincide, that half of the action axis is flat, and the inverse returns 0.

    Attributes:
        lower: (L,) least prune ratio of each layer, in [0, 1].
        prior: (L,) prune ratio that action 0 stands for.
        upper: (L,) most prune ratio of each layer, in [0, 1].
        scale: The quantity in which the map is linear.
        density_floor: Added to the density before the logarithm in layers that may become empty
            (`upper` = 1), in (0, 1).
    """

    lower: FloatArray
    prior: FloatArray
    upper: FloatArray
    scale: Scale = "log-density"
    density_floor: float = 1e-3

    def __post_init__(self) -> None:
        if self.scale not in ("log-density", "linear"):
            raise ValueError(f"`scale` {self.scale!r}: allowed are 'log-density', 'linear'")
        ordered = (self.lower >= 0) & (self.lower <= self.prior) & (self.prior <= self.upper)
        wrong = np.flatnonzero(~(ordered & (self.upper <= 1)))
        if wrong.size:
            i = int(wrong[0])
            raise ValueError(
                f"layer {i}: prior ratio {self.prior[i]:g} and bounds [{self.lower[i]:g}, "
                f"{self.upper[i]:g}] are not usable: allowed is 0 <= `ws_ratio_min` <= prior <= "
                "`ws_ratio_max` <= 1"
            )
        if not 0 < self.density_floor < 1:
            raise ValueError(f"density_floor {self.density_floor!r}: allowed is (0, 1)")

    @classmethod
    def of(cls, problem: AllocationProblem, *, scale: Scale = "log-density") -> Self:
        """Build the map of a problem from its bounds and prior."""
        weights = problem.weights
        return cls(
            lower=problem.lower / weights,
            prior=problem.prior / weights,
            upper=problem.upper / weights,
            scale=scale,
        )

    def ratio(self, action: float, layer: int) -> float:
        """Return the prune ratio of an action in [-1, 1] in a layer."""
        share = min(abs(float(action)), 1.0)
        if share == 0.0:
            return float(self.prior[layer])
        end = self.upper if action > 0 else self.lower
        if share == 1.0:
            return float(end[layer])
        start = self._to_scale(self.prior[layer], layer)
        value = start + share * (self._to_scale(end[layer], layer) - start)
        halves = (self.prior, end) if action > 0 else (end, self.prior)  # rounding leaves no half
        low, high = (float(points[layer]) for points in halves)
        return min(max(self._from_scale(value, layer), low), high)

    def action(self, ratio: float, layer: int) -> float:
        """Return the action of a prune ratio; -1 or 1 if the ratio is beyond the bounds.

        The exact inverse of `ratio`, except for flat halves.
        """
        clipped = float(np.clip(ratio, self.lower[layer], self.upper[layer]))
        sign = 1.0 if clipped > self.prior[layer] else -1.0
        end = self.upper if sign > 0 else self.lower
        start = self._to_scale(self.prior[layer], layer)
        whole = self._to_scale(end[layer], layer) - start
        if whole == 0.0:
            return 0.0
        share = (self._to_scale(clipped, layer) - start) / whole
        return sign * min(max(share, 0.0), 1.0)

    def _shift(self, layer: int) -> float:
        return self.density_floor if self.upper[layer] >= 1 else 0.0

    def _to_scale(self, ratio: float, layer: int) -> float:
        if self.scale == "linear":
            return float(ratio)
        return float(np.log1p(self._shift(layer) - ratio))

    def _from_scale(self, value: float, layer: int) -> float:
        if self.scale == "linear":
            return value
        return self._shift(layer) - float(np.expm1(value))
