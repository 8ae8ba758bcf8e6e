"""Multiple-choice knapsack: the cheapest choice of one count per layer under a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from envs import FloatArray, IntArray

__all__ = ["solve_knapsack"]

_CELLS = 1 << 16


def solve_knapsack(
    choices: Sequence[IntArray], prices: Sequence[FloatArray], *, budget: int, cells: int = _CELLS
) -> IntArray:
    """(L,) counts of least summed price among those with at least `budget` zeros.

    Exact if the weights that layers may keep beyond their minimum are at most `cells` times their
    greatest common divisor, as in transformers. Otherwise weights are counted in larger units,
    rounded up, and the remainder is given to the layers that gain most.

    Args:
        choices: L ascending arrays of counts of zeros.
        prices: L arrays of their errors.
        budget: Minimum number of zeros of all layers together.
        cells: Size of the budget axis.

    Raises:
        ValueError: The layers' maximum counts have fewer zeros.
    """
    kept = [int(counts[-1]) - counts for counts in choices]
    spare = sum(int(counts[-1]) for counts in choices) - budget
    if spare < 0:
        raise ValueError(f"{budget} zeros: the layers allow at most {budget + spare}")
    step = math.gcd(*(int(value) for values in kept for value in values)) or 1
    unit = step * max(1, -(-(spare // step) // cells))
    costs = [-(-values // unit) for values in kept]
    size = spare // unit + 1
    best, picks = np.zeros(size), []
    for cost, price in zip(costs, prices, strict=True):
        tried = np.full((len(cost), size), np.inf)
        for level, (units, error) in enumerate(zip(cost.tolist(), price, strict=True)):
            if units < size:
                tried[level, units:] = best[: size - units] + error
        picks.append(tried.argmin(0))
        best = tried.min(0)
    left, levels = size - 1, np.zeros(len(choices), np.int64)
    for layer in reversed(range(len(choices))):
        levels[layer] = picks[layer][left]
        left -= int(costs[layer][levels[layer]])
    _spend(levels, kept, prices, spare=spare)
    return np.array([counts[level] for counts, level in zip(choices, levels, strict=True)])


def _spend(
    levels: IntArray, kept: Sequence[IntArray], prices: Sequence[FloatArray], *, spare: int
) -> None:
    """Give the remainder of rounding step by step to the layer that gains most."""
    used = sum(int(values[level]) for values, level in zip(kept, levels, strict=True))
    while True:
        gains = [
            (float(prices[layer][level] - prices[layer][lower]), layer, lower)
            for layer, level in enumerate(levels)
            for lower in range(int(level))
            if used + int(kept[layer][lower] - kept[layer][level]) <= spare
        ]
        gain, layer, lower = max(gains, default=(0.0, 0, 0))
        if gain <= 0:
            return
        used += int(kept[layer][lower] - kept[layer][levels[layer]])
        levels[layer] = lower
