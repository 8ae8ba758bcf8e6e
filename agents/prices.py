"""Prices on the layers' own divergences: the additive part of the critic."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from envs import FloatArray

__all__ = ["fit_prices"]

_SLOPE_WEIGHT = 3.0
_PULL = 0.3


def fit_prices(
    curves: FloatArray,
    steeps: FloatArray,
    values: FloatArray,
    slopes: FloatArray,
    *,
    pull: float = _PULL,
) -> FloatArray:
    """(L,) non-negative prices a that explain values by sum_i a_i c_i and slopes by a_i c_i'.

    Least squares of relative residuals: a value counts 1 / value, a slope 3 / value, and every
    price is pulled towards their common level, which is 1 if own divergences add up.

    Args:
        curves: (N, L) own divergences c_i at N profiles.
        steeps: (N, L) their derivatives c_i'.
        values: (N,) divergences of the whole profiles, above 0.
        slopes: (N, L) derivatives of those, NaN where unknown.
        pull: Weight of a unit of (price / level - 1).
    """
    ratio = np.log(values / np.maximum(curves.sum(1), 1e-12))
    level = float(np.exp(ratio.sum() / (len(ratio) + 1)))
    scaled, scaled_steeps = level * curves, level * steeps
    size = curves.shape[1]
    known = np.isfinite(slopes)
    weight = _SLOPE_WEIGHT / values[:, None]
    square = (np.where(known, weight * scaled_steeps, 0.0) ** 2).sum(0)
    toward = (np.where(known, weight**2 * scaled_steeps * np.nan_to_num(slopes), 0.0)).sum(0)
    # The slope rows have one unknown each, so that they join into one row per layer.
    root = np.sqrt(square + pull**2)
    rows = np.vstack([scaled / values[:, None], np.diag(root)])
    right = np.concatenate([np.ones(len(values)), (toward + pull**2) / np.maximum(root, 1e-12)])
    found, _ = nnls(rows, right, maxiter=30 * size)
    prices: FloatArray = level * found
    return prices
