"""Budget arithmetic on zero counts: feasible intervals and projection onto the budget.

A profile is an int64 array (L,): the number of zero weights of each layer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from envs.problem import FloatArray, IntArray

__all__ = [
    "check_feasible",
    "count_bounds",
    "feasible_interval",
    "largest_remainder",
    "project",
    "water_fill",
]

_ROUNDING = 1e-9  # 0.1 * 30 is slightly above 3; this must not move a bound
_BISECTIONS = 200  # halves the interval below one float64 step


def count_bounds(
    lower_ratio: ArrayLike, upper_ratio: ArrayLike, weights: IntArray
) -> tuple[IntArray, IntArray]:
    """Convert bounds on prune ratios into bounds on zero counts.

    A layer too small to have a count between its two ratios gets the rounded-down upper ratio as
    both bounds, so that a weight too many is kept rather than pruned.

    Args:
        lower_ratio: Least prune ratio, one for all or (L,), in [0, 1].
        upper_ratio: Most prune ratio, one for all or (L,), in [`lower_ratio`, 1].
        weights: (L,) number of weights of each layer.

    Returns:
        (L,) least and (L,) most zeros.

    Raises:
        ValueError: A ratio is outside [0, 1] or the bounds cross.
    """
    low = np.broadcast_to(np.asarray(lower_ratio, np.float64), weights.shape)
    high = np.broadcast_to(np.asarray(upper_ratio, np.float64), weights.shape)
    if not (np.all(low >= 0) and np.all(high <= 1) and np.all(low <= high)):
        raise ValueError(
            f"prune-ratio bounds {low.min():g} to {high.max():g} are not usable: allowed is "
            "0 <= `ws_ratio_min` <= `ws_ratio_max` <= 1"
        )
    most = np.floor(high * weights + _ROUNDING).astype(np.int64)
    least = np.ceil(low * weights - _ROUNDING).astype(np.int64)
    return np.minimum(least, most), most


def check_feasible(budget: int, *, lower: IntArray, upper: IntArray, weights: IntArray) -> None:
    """Check that some profile within the bounds meets the budget exactly.

    Args:
        budget: Zeros the whole network must have.
        lower: (L,) least zeros of each layer.
        upper: (L,) most zeros of each layer.
        weights: (L,) number of weights of each layer.

    Raises:
        ValueError: No profile does; the message names target, bounds and remedy.
    """
    least, most, total = int(lower.sum()), int(upper.sum()), int(weights.sum())
    if least <= budget <= most:
        return
    side = "raise `ws_ratio_max`, exempt fewer layers or lower `ws_prune_ratio`"
    if budget < least:
        side = "lower `ws_ratio_min` or raise `ws_prune_ratio`"
    raise ValueError(
        f"prune ratio {budget / total:.6g} ({budget} of {total} weights) cannot be met: the "
        f"layers' bounds allow {least / total:.6g} to {most / total:.6g}; {side}"
    )


def feasible_interval(
    index: int, chosen: IntArray, *, lower: IntArray, upper: IntArray, budget: int
) -> tuple[int, int]:
    """Feasible zeros of layer `index`, so that the later layers can still meet the budget exactly.

    Args:
        index: The layer to decide, in [0, L).
        chosen: (L,) or (index,) zeros; only the entries before `index` are read.
        lower: (L,) least zeros of each layer.
        upper: (L,) most zeros of each layer.
        budget: Zeros the whole network must have.

    Returns:
        Least and most zeros of this layer, both inclusive.

    Raises:
        ValueError: The choices of the earlier layers made the budget infeasible.
    """
    left = budget - int(chosen[:index].sum())
    least = max(int(lower[index]), left - int(upper[index + 1 :].sum()))
    most = min(int(upper[index]), left - int(lower[index + 1 :].sum()))
    if least > most:
        raise ValueError(
            f"layer {index}: {left} zeros are left to spend, which the remaining layers' bounds "
            "cannot meet; widen `ws_ratio_min`/`ws_ratio_max` or change `ws_prune_ratio`"
        )
    return least, most


def largest_remainder(
    ideal: FloatArray, total: int, *, lower: IntArray, upper: IntArray
) -> IntArray:
    """Round a profile to whole counts that sum to `total` exactly.

    Counts are rounded down, then the largest fractions are rounded up; ties go to the lowest
    index. Where `ideal` itself misses `total`, the difference is spread evenly within the bounds.

    Args:
        ideal: (L,) zeros wanted, not necessarily whole.
        total: Zeros the result must have.
        lower: (L,) least zeros of each layer.
        upper: (L,) most zeros of each layer.

    Returns:
        (L,) counts within the bounds.

    Raises:
        ValueError: The bounds do not allow `total`.
    """
    if not int(lower.sum()) <= total <= int(upper.sum()):
        raise ValueError(
            f"{total} zeros cannot be split: the bounds allow {lower.sum()} to {upper.sum()}"
        )
    counts = np.clip(np.floor(ideal).astype(np.int64), lower, upper)
    while gap := total - int(counts.sum()):
        sign = 1 if gap > 0 else -1
        room = upper - counts if gap > 0 else counts - lower
        (open_,) = np.nonzero(room)
        if abs(gap) >= open_.size:
            counts[open_] += sign * min(abs(gap) // open_.size, int(room[open_].min()))
        else:
            want = sign * (ideal - counts)[open_]
            counts[open_[np.argsort(-want, kind="stable")[: abs(gap)]]] += sign
    return counts


def water_fill(
    kept: FloatArray,
    *,
    total: int | FloatArray,
    least: IntArray | FloatArray,
    most: IntArray | FloatArray,
    halvings: int = _BISECTIONS,
) -> FloatArray:
    """Scale every row by a separate factor and clip it to the bounds, so that it sums to `total`.

    The factor is found by bisection.

    Args:
        kept: (..., L) rows of positive numbers.
        total: Sum of each row, between the sums of `least` and `most`; a number, or one that
            broadcasts against (..., 1).
        least: (L,) or (..., L) lower bounds, 0 or more.
        most: (L,) or (..., L) upper bounds.
        halvings: Halvings of the interval of ln(factor); 64 are exact to 1e-12.

    Returns:
        (..., L) rows within the bounds, exact up to rounding.
    """
    # At the ends of this interval every layer is at its lower or at its upper bound.
    low = np.log(np.maximum(least, _ROUNDING) / kept).min(-1, keepdims=True)
    high = np.log(np.maximum(most, _ROUNDING) / kept).max(-1, keepdims=True)
    for _ in range(halvings):
        middle = (low + high) / 2
        short = np.clip(kept * np.exp(middle), least, most).sum(-1, keepdims=True) < total
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    filled: FloatArray = np.clip(kept * np.exp(high), least, most)
    return filled


def project(
    zeros: IntArray | FloatArray,
    *,
    budget: int,
    lower: IntArray,
    upper: IntArray,
    weights: IntArray,
) -> IntArray:
    """Project a profile onto the budget and the bounds.

    Every layer's density is multiplied by one common factor and clipped to its bounds (found by
    bisection), then counts are rounded by largest remainder. Before rounding this is the profile
    of least Kullback-Leibler divergence between the kept counts and those of `zeros` (I. Csiszar,
    "I-divergence geometry", 1975). A profile that is exact and within bounds is unchanged.

    Args:
        zeros: (L,) zeros of each layer, in [0, weights]; need not be whole.
        budget: Zeros the whole network must have.
        lower: (L,) least zeros of each layer.
        upper: (L,) most zeros of each layer.
        weights: (L,) number of weights of each layer.

    Raises:
        ValueError: No profile within the bounds meets the budget.
    """
    check_feasible(budget, lower=lower, upper=upper, weights=weights)
    whole = np.rint(zeros).astype(np.int64)
    if np.array_equal(whole, zeros) and _fits(whole, budget, lower, upper):
        return whole
    # An empty layer counts as half a weight: no factor could raise a density of zero.
    kept = np.maximum(weights - np.asarray(zeros, np.float64), 0.5)
    wanted = int(weights.sum()) - budget
    ideal = weights - water_fill(kept, total=wanted, least=weights - upper, most=weights - lower)
    return largest_remainder(ideal, budget, lower=lower, upper=upper)


def _fits(zeros: IntArray, budget: int, lower: IntArray, upper: IntArray) -> bool:
    within = bool(np.all((lower <= zeros) & (zeros <= upper)))
    return within and int(zeros.sum()) == budget
