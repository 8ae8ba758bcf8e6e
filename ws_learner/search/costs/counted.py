"""Costs that need no measurement, and several costs as one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from envs import LayerRow
from ws_learner.core import LayerChoice, LayerCosts, check_choice

__all__ = ["CountedCosts", "ScaledCosts", "WeightedCosts"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CountedCosts:
    """Weights that are not zero, or multiply-accumulates with them, of the layer table.

    Attributes:
        unit: `params` or `macs`.
        layers: The layer table.
    """

    unit: Literal["params", "macs"]
    layers: Sequence[LayerRow]

    def __post_init__(self) -> None:
        check_choice(self.unit, Literal["params", "macs"], name="unit")

    @property
    def digest(self) -> str:
        """SHA-256 of the counts."""
        rows = [[row.name, self.price(place)] for place, row in enumerate(self.layers)]
        return hashlib.sha256(json.dumps([self.unit, rows]).encode()).hexdigest()

    @property
    def overhead(self) -> float:
        """Nothing: what is not in the layer table is not counted."""
        return 0.0

    def price(self, layer: int) -> float:
        """Cost of one weight."""
        row = self.layers[layer]
        return 1.0 if self.unit == "params" else row.macs / row.weights

    def cost(self, layer: int, choice: LayerChoice) -> float:
        """Number kept.

        Raises:
            UserError: The choice has more zeros than the layer has weights.
        """
        row = self.layers[layer]
        choice.density(row.weights, layer=row.name)
        return self.price(layer) * (row.weights - choice.zeros)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaledCosts:
    """Costs times a factor, by which those of the dense network are the measured ones.

    Attributes:
        inner: The costs.
        factor: The factor.
    """

    inner: LayerCosts
    factor: float

    @property
    def unit(self) -> str:
        """See `LayerCosts`."""
        return self.inner.unit

    @property
    def digest(self) -> str:
        """That of the costs."""
        return self.inner.digest

    @property
    def overhead(self) -> float:
        """See `LayerCosts`."""
        return self.factor * self.inner.overhead

    def cost(self, layer: int, choice: LayerChoice) -> float:
        """See `LayerCosts`."""
        return self.factor * self.inner.cost(layer, choice)


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedCosts:
    """Weighted sum of costs, each as a share of its budget: 1 where all budgets are used up.

    Attributes:
        parts: The costs.
        budgets: The budget of each, in its unit.
        shares: Weight of each, 0 or above, of sum 1.
    """

    parts: Sequence[LayerCosts]
    budgets: Sequence[float]
    shares: Sequence[float]

    @property
    def unit(self) -> str:
        """The units in one text."""
        return "+".join(part.unit for part in self.parts)

    @property
    def digest(self) -> str:
        """SHA-256 of the parts' digests, their budgets and weights."""
        facts = [[p.digest for p in self.parts], list(self.budgets), list(self.shares)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def overhead(self) -> float:
        """Cost of what no layer has, as a share of the budgets."""
        return self._sum([part.overhead for part in self.parts])

    def cost(self, layer: int, choice: LayerChoice) -> float:
        """Cost of a layer, as a share of the budgets."""
        return self._sum([part.cost(layer, choice) for part in self.parts])

    def _sum(self, costs: Sequence[float]) -> float:
        rows = zip(self.shares, costs, self.budgets, strict=True)
        return sum(share * cost / budget for share, cost, budget in rows)
