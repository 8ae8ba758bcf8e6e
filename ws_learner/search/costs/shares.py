"""Several budgets as one: weights under which a cheap profile meets all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from envs import FloatArray

__all__ = ["weigh_budgets"]

_ROUNDS = 24
_RATE = 4.0
_MET = 1.001


def weigh_budgets(overspent: Callable[[FloatArray], Sequence[float]], count: int) -> FloatArray:
    """Weights of several budgets, found by multiplicative weights.

    A budget that alone makes a profile that meets all others gets all the weight. Otherwise the
    weight of a budget rises by e^(rate x overspending) per round (S. Arora, E. Hazan and S. Kale,
    Theory of Computing 8, 2012).

    Args:
        overspent: Costs of the profile of these weights, each as a share of its budget.
        count: Number of budgets.

    Returns:
        (count,) weights of sum 1: those whose profile overspends least.
    """
    found: list[tuple[float, FloatArray]] = []

    def tried(shares: FloatArray) -> FloatArray:
        spent = np.asarray(overspent(shares), dtype=np.float64)
        found.append((float(spent.max()), shares))
        return spent

    for single in np.eye(count):
        if tried(single).max() <= _MET:
            return np.asarray(single)
    shares = np.full(count, 1 / count)
    for number in range(_ROUNDS):
        spent = tried(shares)
        if abs(spent.max() - 1) < _MET - 1:
            break
        grown = shares * np.exp(_RATE / (1 + number / 4) * (spent - spent.mean()))
        shares = np.maximum(grown / grown.sum(), 1e-6)
        shares = shares / shares.sum()
    return min(found, key=lambda pair: pair[0])[1]
