"""Interpolation of the layers' error curves."""

from __future__ import annotations

import numpy as np

from envs.problem import FloatArray, IntArray

__all__ = ["error_at"]


def error_at(
    zeros: IntArray | FloatArray, *, weights: int, ratios: FloatArray, errors: FloatArray
) -> FloatArray:
    """Interpolate the errors of one layer at any counts of zeros.

    Between measured ratios the error is linear in the logarithm of the number of weights kept,
    where 95 and 97.5 % are as far apart as 50 and 75 %. A dense layer has error 0. An empty one
    has error 1 and counts as half a weight kept. Curves are made non-decreasing in the ratio.

    Args:
        zeros: Counts in [0, `weights`], any shape, not necessarily whole.
        weights: Number of weights of the layer.
        ratios: (K,) ascending ratios in [0, 1].
        errors: (K,) relative squared errors measured there.
    """
    known = (ratios > 0) & (weights * (1 - ratios) > 0.5)
    kept_at = np.concatenate([[weights], weights * (1 - ratios[known]), [0.5]])
    error_at_ = np.concatenate([[0.0], errors[known], [1.0]])
    kept = np.log(np.maximum(weights - zeros, 0.5))
    result: FloatArray = np.interp(-kept, -np.log(kept_at), np.maximum.accumulate(error_at_))
    return result
