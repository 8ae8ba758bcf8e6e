"""The structured critic: predicts the divergence of any profile from values and slopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from agents.prices import fit_prices
from agents.residual import ResidualProcess
from envs import FloatArray, OwnCurves

__all__ = ["BOLD", "CAUTIOUS", "CriticSettings", "Observed", "ProfileCritic"]

STEEPEST = 0.8
"""Slopes of ln(divergence) are clipped to this: single layers have outliers."""
_MOST_VALUES, _MOST_SLOPES = 300, 1300  # the cost of the process is cubic in their number
_LEAST = 1e-4  # a smaller divergence cannot be told from none


@dataclass(frozen=True, kw_only=True)
class CriticSettings:
    """How far the critic follows what it has seen.

    Attributes:
        pull: Pull of the prices towards their common level, see `fit_prices`.
        length: Length scale of the residual, in ln density.
        slope_noise: Standard deviation of the noise of slopes of ln(divergence).
    """

    pull: float = 0.3
    length: float = 4.0
    slope_noise: float = 0.15


BOLD = CriticSettings()
"""For a search, whose rollouts correct what the critic promised too much."""
CAUTIOUS = CriticSettings(pull=3.0, length=3.0, slope_noise=0.4)
"""For profiles without a rollout: these predict unseen rounds of a search best (docs/log.md)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """A scored profile.

    Attributes:
        point: (L,) ln densities at the milder profile, which was scored.
        executed: (L,) ln densities of the profile itself.
        value: The divergence.
        slopes: (L,) derivatives of the divergence by `point`, NaN where unknown.
    """

    point: FloatArray
    executed: FloatArray
    value: float
    slopes: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class ProfileCritic:
    """ln Q(x) = ln sum_i a_i c_i(x_i) + r(x), for ln densities x of the profile as scored.

    c_i are the layers' own divergences, a_i their prices (`fit_prices`), r a Gaussian process on
    what is left, taught by values and clipped slopes (`ResidualProcess`). It does not know the
    target, so that rollouts at all targets teach one critic.

    Attributes:
        curves: c_i.
        prices: (L,) a_i; 1 without observations.
        residual: r; None without observations.
    """

    curves: OwnCurves
    prices: FloatArray
    residual: ResidualProcess | None

    @classmethod
    def fit(
        cls, curves: OwnCurves, seen: Sequence[Observed], settings: CriticSettings = BOLD
    ) -> Self:
        """Fit prices and residual to scored profiles, oldest first."""
        if not seen:
            return cls(curves=curves, prices=np.ones(len(curves.weights)), residual=None)
        points = np.stack([one.point for one in seen])
        values = np.maximum([one.value for one in seen], _LEAST)
        slopes = np.stack([one.slopes for one in seen])
        relative = np.clip(slopes / values[:, None], -STEEPEST, STEEPEST)
        own, steep = curves(points)
        prices = fit_prices(own, steep, values, relative * values[:, None], pull=settings.pull)
        additive = cls(curves=curves, prices=prices, residual=None)
        rows = _useful(values, _MOST_VALUES)
        left_out = np.setdiff1d(rows, _within(rows, np.isfinite(relative).sum(1), _MOST_SLOPES))
        relative[left_out] = np.nan
        order = np.sort(rows)
        mean, slope = additive(points[order])
        residual = ResidualProcess.given(
            points[order],
            np.log(values[order]) - mean,
            relative[order] - slope,
            length=settings.length,
            slope_noise=settings.slope_noise,
        )
        return cls(curves=curves, prices=prices, residual=residual)

    def __call__(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return ln Q (M,) and its derivative (M, L) at points (M, L)."""
        own, steep = self.curves(x)
        total = np.maximum((own * self.prices).sum(-1), 1e-12)
        mean, slope = np.log(total), self.prices * steep / total[:, None]
        if self.residual is not None:
            left, left_slope = self.residual.predict(x)
            mean, slope = mean + left, slope + left_slope
        return mean, slope

    def deviation(self, x: FloatArray) -> FloatArray:
        """(M,) standard deviation of ln Q at points (M, L), by the residual alone."""
        if self.residual is None:
            return np.full(len(x), np.inf)
        return self.residual.deviation(x)


def _useful(values: FloatArray, count: int) -> list[int]:
    """Rows of the best and the newest profiles, by turns, at most `count`."""
    best = np.argsort(values, kind="stable").tolist()
    newest = range(len(values) - 1, -1, -1)
    turns = [row for pair in zip(newest, best, strict=True) for row in pair]
    return list(dict.fromkeys(turns))[:count]


def _within(rows: Sequence[int], costs: FloatArray, room: int) -> list[int]:
    """The first rows whose costs fit into `room`."""
    fits = np.cumsum(costs[list(rows)]) <= room
    return [row for row, fit in zip(rows, fits, strict=True) if fit]
