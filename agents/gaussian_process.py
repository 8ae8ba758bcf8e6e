"""Exact Gaussian-process regression for a few hundred trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from envs import FloatArray

__all__ = ["GaussianProcess", "Views", "matern52"]

Views = tuple[FloatArray, ...]
"""The same N points in one or more coordinate systems, (N, D) each; D may differ per system."""

LENGTHS = tuple(float(x) for x in np.geomspace(0.3, 20.0, 7))
"""Length scales that `fit` chooses from, in units of the median distance between points."""

NOISES = (1e-4, 1e-3, 1e-2, 1e-1, 0.5)
"""Noise shares of the variance that `fit` chooses from."""


def matern52(a: FloatArray, b: FloatArray, length: float) -> FloatArray:
    """Matern covariance of smoothness 5/2 and variance 1.

    Args:
        a: (N, D) points.
        b: (M, D) points.
        length: Length scale, above 0.

    Returns:
        (N, M) covariances.
    """
    r = np.sqrt(5) * _distances(a, b) / length
    covariance: FloatArray = (1 + r + r**2 / 3) * np.exp(-r)
    return covariance


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianProcess:
    """Gaussian-process posterior: constant mean, Gaussian noise, mean of Matern 5/2 kernels.

    C. E. Rasmussen and C. Williams, "Gaussian Processes for Machine Learning", 2006, algorithm
    2.1. The covariance averages one kernel per view, so points are similar if they are similar in
    any view. Mean and variance maximise the likelihood in closed form. Length scales and noise
    share maximise it over a grid, so the fit cannot diverge and equal data give equal results.

    Attributes:
        views: The N inputs.
        lengths: Length scale of each view.
        noise: Noise variance divided by the variance of the function.
        mean: Mean of the function.
        variance: Variance of the function.
        evidence: Logarithm of the marginal likelihood.
        root: (N, N) lower Cholesky factor of the covariance divided by `variance`.
        weights: (N,) inverse of that covariance times the residuals.
    """

    views: Views
    lengths: tuple[float, ...]
    noise: float
    mean: float
    variance: float
    evidence: float
    root: FloatArray
    weights: FloatArray

    @classmethod
    def fit(cls, views: Views, values: FloatArray) -> Self:
        """Return the posterior of the highest likelihood over the grid.

        Args:
            views: N inputs, N at least 1.
            values: (N,) outputs.
        """
        units = [_median_distance(view) for view in views]
        known = [
            {length: matern52(view, view, length * unit) for length in LENGTHS}
            for view, unit in zip(views, units, strict=True)
        ]
        best: Self | None = None
        for chosen in product(LENGTHS, repeat=len(views)):
            covariance = np.mean(
                [parts[length] for parts, length in zip(known, chosen, strict=True)], axis=0
            )
            lengths = tuple(length * unit for length, unit in zip(chosen, units, strict=True))
            for noise in NOISES:
                fit = cls._posterior(views, values, lengths, noise, covariance)
                if best is None or fit.evidence > best.evidence:
                    best = fit
        assert best is not None
        return best

    @classmethod
    def given(
        cls, views: Views, values: FloatArray, *, lengths: tuple[float, ...], noise: float
    ) -> Self:
        """Return the posterior for given length scales (one per view) and noise share."""
        return cls._posterior(views, values, lengths, noise, _covariance(views, views, lengths))

    @classmethod
    def _posterior(
        cls,
        views: Views,
        values: FloatArray,
        lengths: tuple[float, ...],
        noise: float,
        covariance: FloatArray,
    ) -> Self:
        count = len(values)
        root = cholesky(covariance + noise * np.eye(count), lower=True)
        ones = cho_solve((root, True), np.ones(count))
        mean = float(ones @ values / ones.sum())
        weights = cho_solve((root, True), values - mean)
        variance = max(float((values - mean) @ weights) / count, 1e-12)
        evidence = -0.5 * count * (np.log(2 * np.pi * variance) + 1) - np.log(np.diag(root)).sum()
        return cls(
            views=views,
            lengths=lengths,
            noise=noise,
            mean=mean,
            variance=variance,
            evidence=float(evidence),
            root=root,
            weights=weights,
        )

    def predict(self, views: Views) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation, each (M,), of the function at M points."""
        across = _covariance(views, self.views, self.lengths)
        mean: FloatArray = self.mean + across @ self.weights
        explained = solve_triangular(self.root, across.T, lower=True)
        left = np.maximum(1 - (explained**2).sum(0), 1e-12)
        return mean, np.sqrt(self.variance * left)


def _covariance(a: Views, b: Views, lengths: Sequence[float]) -> FloatArray:
    parts = [matern52(x, y, length) for x, y, length in zip(a, b, lengths, strict=True)]
    mean: FloatArray = np.mean(parts, axis=0)
    return mean


def _distances(a: FloatArray, b: FloatArray) -> FloatArray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    distances: FloatArray = np.sqrt(np.maximum(squares, 0))
    return distances


def _median_distance(view: FloatArray) -> float:
    """Median distance between distinct points; 1 if there are none."""
    distances = _distances(view, view)[np.triu_indices(len(view), 1)]
    apart = distances[distances > 1e-9]
    return float(np.median(apart)) if apart.size else 1.0
