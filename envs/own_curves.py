"""Curves of the layers' own divergences: smooth functions of ln(density)."""

from __future__ import annotations

import numpy as np

from envs.problem import FloatArray, IntArray

__all__ = ["OwnCurves"]

_FLOOR = 1e-6  # divergences below it cannot be told from rounding
_NEARLY_DENSE = -1e-6
_STEEPEST = 8.0


class OwnCurves:
    """c_i(x): divergence with layer i alone at density e^x, for L layers.

    ln c is a monotone piecewise cubic function of x (F. N. Fritsch and J. Butland, SIAM J. Sci.
    Stat. Comput. 5, 1984). Between the greatest measured density and 1 it is a power of -x, so that
    a dense layer has c = 0. An empty layer counts as half a weight kept. A density stands for the
    nearest whole number of weights.

    Args:
        densities: (J,) ascending densities in [0, 1), the first one 0, at which it was measured.
        values: (L, J) divergences; made non-increasing in the density.
        weights: (L,) number of weights of each layer.
    """

    def __init__(self, densities: FloatArray, values: FloatArray, weights: IntArray) -> None:
        if densities[0] != 0 or densities[-1] >= 1 or (np.diff(densities) <= 0).any():
            raise ValueError(f"densities {densities.tolist()}: must ascend from 0 to below 1")
        self.densities, self.weights = densities, weights
        falling = np.maximum.accumulate(values[:, ::-1], axis=1)[:, ::-1]
        self.values: FloatArray = np.maximum(falling, _FLOOR)
        kept = np.maximum(np.rint(densities * weights[:, None]), 0.5)  # as it was measured
        knots, logs = np.log(kept / weights[:, None]), np.log(self.values)
        rising = np.maximum.accumulate(knots + np.arange(knots.shape[1]) * 1e-9, axis=1)
        self._knots: FloatArray = np.minimum(rising, _NEARLY_DENSE)
        self._logs: FloatArray = logs
        self._slopes = _monotone_slopes(self._knots, logs)
        top, steep = self._knots[:, -1], self._slopes[:, -1]
        self._power: FloatArray = np.clip(steep * top, 1.0, _STEEPEST)

    def __call__(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return c and its derivative dc/dx, each (..., L), at ln densities x (..., L)."""
        x = np.minimum(x, _NEARLY_DENSE)
        layer = np.arange(x.shape[-1])
        place = (x[..., None] >= self._knots).sum(-1) - 1
        cell = np.clip(place, 0, self._knots.shape[1] - 2)
        left, right = self._knots[layer, cell], self._knots[layer, cell + 1]
        width = np.maximum(right - left, 1e-12)
        t = np.clip((x - left) / width, 0, 1)
        y0, y1 = self._logs[layer, cell], self._logs[layer, cell + 1]
        m0, m1 = self._slopes[layer, cell] * width, self._slopes[layer, cell + 1] * width
        log = (
            (1 + 2 * t) * (1 - t) ** 2 * y0
            + t * (1 - t) ** 2 * m0
            + t**2 * (3 - 2 * t) * y1
            + t**2 * (t - 1) * m1
        )
        slope = (
            6 * t * (t - 1) * (y0 - y1) + (1 - t) * (1 - 3 * t) * m0 + t * (3 * t - 2) * m1
        ) / width
        top = self._knots[:, -1]
        beyond = x > top
        log = np.where(beyond, self._logs[:, -1] + self._power * np.log(x / top), log)
        slope = np.where(beyond, self._power / x, slope)
        value: FloatArray = np.exp(log)
        return value, value * np.where(x < self._knots[:, 0], 0.0, slope)


def _monotone_slopes(x: FloatArray, y: FloatArray) -> FloatArray:
    """Weighted harmonic means of neighbouring secants, (L, J); secants at the ends."""
    width = np.maximum(np.diff(x, axis=1), 1e-12)
    secant = np.diff(y, axis=1) / width
    before, after = width[:, :-1], width[:, 1:]
    w0, w1 = 2 * after + before, after + 2 * before
    s0, s1 = secant[:, :-1], secant[:, 1:]
    both = s0 * s1 > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (w0 + w1) / (w0 / s0 + w1 / s1)
    inner = np.where(both, mean, 0.0)
    return np.concatenate([secant[:, :1], inner, secant[:, -1:]], axis=1)
