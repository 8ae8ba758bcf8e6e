"""Gaussian process on values and slopes: what the additive part of the critic leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from envs import FloatArray
from ws_learner.core import one_thread

__all__ = ["ResidualProcess"]

DEVIATION = 0.3
VALUE_NOISE = 0.03


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidualProcess:
    """Posterior of r ~ GP(0, s^2 exp(-|x - x'|^2 / (2 l^2))) from values and derivatives.

    Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, section 9.4.

    Attributes:
        points: (N, D) inputs.
        known: (N, D) True where the derivative was observed.
        length: l.
        factor: Lower Cholesky factor of the covariance of all observations.
        weights: (N + number of known derivatives,) solution for the observations.
    """

    points: FloatArray
    known: FloatArray
    length: float
    factor: FloatArray
    weights: FloatArray

    @classmethod
    def given(
        cls,
        points: FloatArray,
        values: FloatArray,
        slopes: FloatArray,
        *,
        length: float = 4.0,
        slope_noise: float = 0.15,
    ) -> Self:
        """Condition on values (N,) and derivatives (N, D), NaN where unknown.

        Args:
            points: (N, D) inputs.
            values: (N,) values, observed with a noise of `VALUE_NOISE`.
            slopes: (N, D) derivatives.
            length: l.
            slope_noise: Standard deviation of the noise of derivatives.
        """
        known = np.isfinite(slopes)
        covariance = _between(points, known, points, known, length)
        noise = np.concatenate(
            [np.full(len(points), VALUE_NOISE**2), np.full(int(known.sum()), slope_noise**2)]
        )
        covariance[np.diag_indices_from(covariance)] += noise
        observed = np.concatenate([values, slopes[known]])
        with one_thread():  # the bits of NumPy's and SciPy's solvers depend on the threads
            factor: FloatArray = torch.linalg.cholesky(torch.from_numpy(covariance)).numpy()
        return cls(
            points=points,
            known=known,
            length=length,
            factor=factor,
            weights=_solve(factor, observed),
        )

    def predict(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean (M,) and its derivative (M, D) at points (M, D)."""
        apart = x[:, None] - self.points  # (M, N, D)
        near = _near((apart**2).sum(-1), self.length)
        count = len(self.points)
        alpha, beta = self.weights[:count], np.zeros(self.known.shape)
        beta[self.known] = self.weights[count:]
        along = np.einsum("mnd,nd->mn", apart, beta) / self.length**2
        mean: FloatArray = (near * (alpha + along)).sum(1)
        inner = near * (alpha + along)
        slope: FloatArray = (
            -np.einsum("mn,mnd->md", inner, apart) + np.einsum("mn,nd->md", near, beta)
        ) / self.length**2
        return mean, slope

    def deviation(self, x: FloatArray) -> FloatArray:
        """(M,) standard deviation of r at points (M, D)."""
        none = np.zeros(x.shape, bool)
        across = _between(x, none, self.points, self.known, self.length)
        explained = (across.T * _solve(self.factor, across.T)).sum(0)
        spread: FloatArray = np.sqrt(np.maximum(DEVIATION**2 - explained, 1e-12))
        return spread


def _solve(factor: FloatArray, right: FloatArray) -> FloatArray:
    """Solve for right sides (K,) or (K, M), given the lower Cholesky factor (K, K)."""
    columns = torch.from_numpy(np.ascontiguousarray(right.reshape(len(right), -1)))
    with one_thread():
        found = torch.cholesky_solve(columns, torch.from_numpy(factor))
    solved: FloatArray = found.numpy().reshape(right.shape)
    return solved


def _near(squares: FloatArray, length: float) -> FloatArray:
    near: FloatArray = DEVIATION**2 * np.exp(-squares / (2 * length**2))
    return near


def _between(
    a: FloatArray, known_a: FloatArray, b: FloatArray, known_b: FloatArray, length: float
) -> FloatArray:
    """Covariance of (values, known derivatives) at points a (N, D) and b (M, D)."""
    apart = a[:, None] - b  # (N, M, D)
    near = _near((apart**2).sum(-1), length)
    by_b = near[..., None] * apart / length**2
    rows_a, columns_a = np.nonzero(known_a)
    rows_b, columns_b = np.nonzero(known_b)
    value_value = near
    value_slope = by_b[:, rows_b, columns_b]
    slope_value = -by_b[rows_a, :, columns_a]
    block = near[np.ix_(rows_a, rows_b)] / length**2
    same = columns_a[:, None] == columns_b[None]
    first = apart[rows_a[:, None], rows_b[None], columns_a[:, None]]
    second = apart[rows_a[:, None], rows_b[None], columns_b[None]]
    slope_slope = block * (same - first * second / length**2)
    return np.block([[value_value, value_slope], [slope_value, slope_slope]])
