"""The allocation that minimises the sum of the layers' own divergences, without a rollout."""

from __future__ import annotations

import numpy as np

from envs import FloatArray, IntArray, OwnCurves, as_scored, log_densities
from ws_learner.core import UserError
from ws_learner.search.context import AllocationContext
from ws_learner.search.knapsack import frontier_of
from ws_learner.search.knapsack_solver import solve_knapsack

__all__ = ["divergence", "least_divergence", "summed_divergence"]

_PASSES = 3


def divergence(context: AllocationContext) -> IntArray:
    """(L,) zeros that minimise the summed own divergences of the layers, at the milder densities.

    The own divergence of a layer is that of the network with only this layer pruned. On ResNet-20
    the sum over layers is 0.96 of the whole network's divergence in the median. The minimum is
    exact, by dynamic programming, for the cells and levels of `frontier`. With N:M it has at least
    the requested zeros.

    Raises:
        UserError: What the outputs mean is not known, so that no divergence can be measured.
    """
    measured = context.own()
    if measured is None:
        raise UserError(
            "`ws_prune_ratio_prtl` divergence: what the network's outputs mean is not known, so "
            "they cannot be compared; give `outputs`, or take knapsack"
        )
    densities, values = measured
    return least_divergence(context, OwnCurves(densities, values, context.weights))


def least_divergence(context: AllocationContext, curves: OwnCurves) -> IntArray:
    """(L,) zeros of least sum of `curves` at the profile as it would be scored.

    The factor between a density and the density at which it is scored depends a little on the
    profile, through layers that become dense. It is found by repetition.
    """
    sizes, budget = context.weights, context.budget
    kept = max(int(sizes.sum()) - budget, 1)
    factor = float((kept / sizes.sum()) ** (context.score_power - 1))
    best: tuple[float, IntArray] | None = None
    for _ in range(_PASSES):
        zeros = _minimum(context, curves, factor)
        total = summed_divergence(context, curves, zeros)
        if best is None or total < best[0]:
            best = total, zeros
        scored = as_scored(zeros, sizes, power=context.score_power)
        open_ = (scored > 0) & (zeros < sizes)
        if not open_.any():
            break
        found = float((sizes - scored)[open_].sum() / (sizes - zeros)[open_].sum())
        if abs(found / factor - 1) < 1e-3:
            break
        factor = found
    assert best is not None
    return best[1]


def summed_divergence(context: AllocationContext, curves: OwnCurves, zeros: IntArray) -> float:
    """Sum of the layers' own divergences at the profile as it would be scored."""
    scored = as_scored(zeros, context.weights, power=context.score_power)
    return float(curves(log_densities(scored, context.weights))[0].sum())


def _minimum(context: AllocationContext, curves: OwnCurves, factor: float) -> IntArray:
    sizes = context.weights

    def price(layer: int, zeros: IntArray) -> FloatArray:
        kept = np.maximum(sizes[layer] - zeros, 0.5)
        points = np.zeros((len(zeros), len(sizes)))
        points[:, layer] = np.log(np.minimum(kept * factor / sizes[layer], 1.0))
        found: FloatArray = curves(points)[0][:, layer]
        return found

    if context.choices is not None:
        prices = [price(layer, counts) for layer, counts in enumerate(context.choices)]
        return solve_knapsack(context.choices, prices, budget=context.budget)
    table = frontier_of(
        price,
        weights=sizes,
        lower=context.lower,
        upper=context.upper,
        budget=context.budget,
    )
    return table.zeros(context.budget)
