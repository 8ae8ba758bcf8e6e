"""Logit-density coordinates of profiles: equal steps are equally large at any sparsity."""

from __future__ import annotations

import numpy as np

from envs import AllocationProblem, FloatArray, IntArray, error_at, project, water_fill

__all__ = ["LogitSpace"]


class LogitSpace:
    """Coordinates ln(kept / pruned) of the D layers whose bounds leave a choice.

    At high sparsity a step multiplies the density; near density 1 it multiplies the pruned share.
    A dense or empty layer is placed where half a weight is pruned or kept.

    Args:
        problem: Bounds and budget.
    """

    def __init__(self, problem: AllocationProblem) -> None:
        self._problem, weights = problem, problem.weights
        self.free: IntArray = np.flatnonzero(problem.lower < problem.upper)
        self._sizes = weights[self.free]
        self._least = (weights - problem.upper)[self.free]
        self._most = (weights - problem.lower)[self.free]
        fixed = int(weights.sum() - self._sizes.sum()) - int(
            np.delete(problem.lower, self.free).sum()
        )
        self._kept = int(weights.sum()) - problem.budget - fixed

    @property
    def size(self) -> int:
        """D, the number of coordinates."""
        return len(self.free)

    def encode(self, zeros: IntArray) -> FloatArray:
        """Return the point (..., D) of profiles (..., L)."""
        return self._logit((self._sizes - zeros[..., self.free]).astype(np.float64))

    def errors(self, points: FloatArray) -> FloatArray:
        """Return each layer's error, from the error curves, at points (..., D)."""
        zeros, problem = self._sizes / (1 + np.exp(points)), self._problem
        columns = [
            error_at(
                zeros[..., place],
                weights=int(self._sizes[place]),
                ratios=problem.curve_ratios,
                errors=problem.curves[layer],
            )
            for place, layer in enumerate(self.free.tolist())
        ]
        return np.stack(columns, axis=-1)

    def settle(self, points: FloatArray) -> FloatArray:
        """Project points (..., D) onto the bounds and, if `exact` is set, the budget.

        Works on all rows at once; counts are not rounded to whole weights.
        """
        kept = self._sizes / (1 + np.exp(-points))
        if self._problem.exact:
            kept = water_fill(kept, total=self._kept, least=self._least, most=self._most)
        return self._logit(np.clip(kept, self._least, self._most))

    def decode(self, point: FloatArray, *, around: IntArray, moving: IntArray) -> IntArray:
        """Return the nearest profile (L,) to a point.

        Args:
            point: (D,) coordinates.
            around: (L,) profile that supplies the other layers.
            moving: Coordinates, in [0, D), that may differ from `around`.
        """
        layers, problem = self.free[moving], self._problem
        zeros = around.astype(np.float64)
        zeros[layers] = (self._sizes / (1 + np.exp(point)))[moving]
        lower, upper = around.copy(), around.copy()
        lower[layers], upper[layers] = problem.lower[layers], problem.upper[layers]
        if not problem.exact:
            return np.clip(np.rint(zeros).astype(np.int64), lower, upper)
        return project(
            zeros, budget=problem.budget, lower=lower, upper=upper, weights=problem.weights
        )

    def _logit(self, kept: FloatArray) -> FloatArray:
        inside = np.clip(kept, 0.5, np.maximum(self._sizes - 0.5, 0.5))
        logits: FloatArray = np.log(inside / np.maximum(self._sizes - inside, 0.5))
        return logits
