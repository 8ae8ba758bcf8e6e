"""Exact Gaussian-process regression, for some hundred trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from envs.problem import FloatArray

__all__ = ["GaussianProcess", "matern52"]

LENGTHS = tuple(float(x) for x in np.geomspace(0.5, 32.0, 10))
"""Length scales that `fit` chooses from, in units of the inputs times sqrt(D)."""

NOISES = (1e-4, 1e-3, 1e-2, 1e-1, 0.5)
"""Shares of noise in the variance that `fit` chooses from."""


def matern52(a: FloatArray, b: FloatArray, length: float) -> FloatArray:
    """Matern covariance of smoothness 5/2 and variance 1.

    Args:
        a: (N, D) points.
        b: (M, D) points.
        length: Length scale, above 0.

    Returns:
        (N, M) covariances.
    """
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    r = np.sqrt(5 * np.maximum(squares, 0)) / length
    covariance: FloatArray = (1 + r + r**2 / 3) * np.exp(-r)
    return covariance


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianProcess:
    """A posterior: constant mean, Matern 5/2 covariance, Gaussian noise.

    C. E. Rasmussen and C. Williams, "Gaussian Processes for Machine Learning", 2006, algorithm
    2.1. Mean and variance are those of greatest likelihood, in closed form; length scale and
    share of noise are the most likely ones of a grid, so that nothing can diverge and equal data
    give equal answers.

    Attributes:
        points: (N, D) inputs.
        length: Length scale.
        noise: Variance of the noise over that of the function.
        mean: Mean of the function.
        variance: Variance of the function.
        evidence: Logarithm of the marginal likelihood.
        root: (N, N) lower Cholesky factor of the covariance, over `variance`.
        weights: (N,) covariance's inverse times the residuals, over `variance`.
    """

    points: FloatArray
    length: float
    noise: float
    mean: float
    variance: float
    evidence: float
    root: FloatArray
    weights: FloatArray

    @classmethod
    def fit(cls, points: FloatArray, values: FloatArray) -> Self:
        """Return the most likely posterior of the grid.

        Args:
            points: (N, D) inputs, N and D at least 1.
            values: (N,) outputs.
        """
        scale = np.sqrt(points.shape[1])
        fits = [
            cls.given(points, values, length=float(length * scale), noise=noise)
            for length in LENGTHS
            for noise in NOISES
        ]
        return max(fits, key=lambda fit: fit.evidence)

    @classmethod
    def given(cls, points: FloatArray, values: FloatArray, *, length: float, noise: float) -> Self:
        """Return the posterior for one length scale and share of noise."""
        count = len(points)
        root = cholesky(matern52(points, points, length) + noise * np.eye(count), lower=True)
        ones = cho_solve((root, True), np.ones(count))
        mean = float(ones @ values / ones.sum())
        weights = cho_solve((root, True), values - mean)
        variance = max(float((values - mean) @ weights) / count, 1e-12)
        evidence = -0.5 * count * (np.log(2 * np.pi * variance) + 1) - np.log(np.diag(root)).sum()
        return cls(
            points=points,
            length=length,
            noise=noise,
            mean=mean,
            variance=variance,
            evidence=float(evidence),
            root=root,
            weights=weights,
        )

    def predict(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation, each (M,), of the function at points (M, D)."""
        across = matern52(points, self.points, self.length)
        mean: FloatArray = self.mean + across @ self.weights
        explained = solve_triangular(self.root, across.T, lower=True)
        left = np.maximum(1 - (explained**2).sum(0), 1e-12)
        return mean, np.sqrt(self.variance * left)
