"""The allocation that minimises the sum of the layers' errors, by dynamic programming."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from envs import FloatArray, IntArray, error_at, project
from ws_learner.search.context import AllocationContext
from ws_learner.search.knapsack_solver import solve_knapsack

__all__ = ["Frontier", "frontier", "frontier_of", "knapsack"]


def knapsack(context: AllocationContext) -> IntArray:
    """(L,) zeros that minimise the summed relative error of the layers' outputs.

    As in RD_PRUNE (Xu et al., ICCV 2023) and SPDY (Frantar & Alistarh, ICML 2022): the error of
    each layer alone is measured once, and the sum is minimised under the budget. If a
    layer has few possible counts (N:M), the profile has at least the requested zeros.
    """
    ratios, curves = context.curves()
    if context.choices is not None:
        prices = [
            error_at(counts, weights=int(size), ratios=ratios, errors=curve)
            for counts, size, curve in zip(context.choices, context.weights, curves, strict=True)
        ]
        return solve_knapsack(context.choices, prices, budget=context.budget)
    table = frontier(
        ratios,
        curves,
        weights=context.weights,
        lower=context.lower,
        upper=context.upper,
        budget=context.budget,
    )
    return table.zeros(context.budget)


@dataclass(frozen=True, kw_only=True, eq=False)
class Frontier:
    """Best profiles for a range of budgets, from one dynamic-programming table.

    Attributes:
        weights: (L,) number of weights of each layer.
        lower: (L,) least zeros of each layer.
        upper: (L,) most zeros of each layer.
        unit: Number of weights per cell of the budget axis.
        errors: (J + 1,) least summed error with up to j units kept beyond the minimum.
        costs: For each layer, the units that each level keeps beyond the layer's minimum.
        choices: (L, J + 1) level chosen, given j units for this layer and the earlier ones.
    """

    weights: IntArray
    lower: IntArray
    upper: IntArray
    unit: int
    errors: FloatArray
    costs: Sequence[IntArray]
    choices: IntArray

    def zeros(self, budget: int) -> IntArray:
        """(L,) zeros of the best profile with exactly `budget` zeros.

        `project` distributes the remainder of the units; no layer loses a weight by it.

        Raises:
            ValueError: The budget is outside the table's range.
        """
        left = (int(self.upper.sum()) - budget) // self.unit
        if not 0 <= left < len(self.errors):
            raise ValueError(f"{budget} zeros: outside the frontier's range of budgets")
        units = np.zeros(len(self.weights), np.int64)
        for layer in reversed(range(len(units))):
            units[layer] = self.costs[layer][self.choices[layer, left]]
            left -= int(units[layer])
        return project(
            np.maximum(self.upper - units * self.unit, self.lower),
            budget=budget,
            lower=self.lower,
            upper=self.upper,
            weights=self.weights,
        )


def frontier(
    ratios: FloatArray,
    curves: FloatArray,
    *,
    weights: IntArray,
    lower: IntArray,
    upper: IntArray,
    budget: int,
    cells: int = 4096,
    levels: int = 96,
) -> Frontier:
    """Minimise the sum of the layers' errors for every budget from `budget` zeros up.

    Weights kept beyond the layers' minimum are counted in at most `cells` units. A layer may keep
    any of up to `levels` numbers of units, about evenly spaced in the logarithm of its density;
    `error_at` gives the error there. The table is exact for these choices. The summed error
    exceeds that of the best exact profile by at most the total rise of the curves when each layer
    of that profile moves to the next level with one unit less. With few weights, where all counts
    are levels and the unit is 1, the result is exact.

    Args:
        ratios: (K,) ascending ratios in [0, 1] at which errors were measured.
        curves: (L, K) relative squared errors.
        weights: (L,) number of weights of each layer.
        lower: (L,) least zeros of each layer.
        upper: (L,) most zeros of each layer.
        budget: Smallest number of zeros covered by the table.
        cells: Size of the budget axis.
        levels: Maximum number of choices per layer.
    """

    def price(layer: int, zeros: IntArray) -> FloatArray:
        size = int(weights[layer])
        return error_at(zeros, weights=size, ratios=ratios, errors=curves[layer])

    return frontier_of(
        price,
        weights=weights,
        lower=lower,
        upper=upper,
        budget=budget,
        cells=cells,
        levels=levels,
    )


def frontier_of(
    price: Callable[[int, IntArray], FloatArray],
    *,
    weights: IntArray,
    lower: IntArray,
    upper: IntArray,
    budget: int,
    cells: int = 4096,
    levels: int = 96,
) -> Frontier:
    """The same for any price of a layer: `price(layer, zeros)` for an array of counts of zeros."""
    spare = int(upper.sum()) - budget
    unit = max(1, -(-spare // cells))
    errors = np.zeros(spare // unit + 1)
    costs, choices = [], []
    for layer in range(len(weights)):
        size, most = int(weights[layer]), int(upper[layer])
        cost = _levels(size - most, most - int(lower[layer]), unit, levels)
        zeros = np.maximum(most - cost * unit, lower[layer])
        errors, choice = _add_layer(errors, cost, price(layer, zeros))
        costs.append(cost)
        choices.append(choice)
    return Frontier(
        weights=weights,
        lower=lower,
        upper=upper,
        unit=unit,
        errors=errors,
        costs=costs,
        choices=np.stack(choices),
    )


def _levels(least: int, room: int, unit: int, count: int) -> IntArray:
    """Ascending numbers of units a layer may keep beyond `least` weights; the last is all."""
    top = -(-room // unit)
    if top < count:
        return np.arange(top + 1)
    kept = np.geomspace(max(least, unit), least + room, count)
    return np.unique(np.append(np.rint((kept - least) / unit), [0, top]).clip(0, top)).astype(int)


def _add_layer(
    errors: FloatArray, cost: IntArray, prices: FloatArray
) -> tuple[FloatArray, IntArray]:
    """Add a layer to the table, for all budgets of j units at once."""
    best = errors + prices[0]  # the level of zero units is always allowed
    choice = np.zeros(len(errors), np.int64)
    for level in range(1, len(cost)):
        start = int(cost[level])
        if start >= len(errors):
            break
        tried = errors[: len(errors) - start] + prices[level]
        better = tried < best[start:]
        best[start:][better] = tried[better]
        choice[start:][better] = level
    return best, choice
