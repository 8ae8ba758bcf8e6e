"""Prices: bounded least squares of the stacked system, known prices come back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from agents.prices import fit_prices
from envs.problem import FloatArray

PULL, SLOPE = 0.3, 3.0


def data(seed: int, rows: int = 9, layers: int = 6) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    curves = np.exp(rng.normal(-3, 1, (rows, layers)))
    return curves, -curves * rng.uniform(0.3, 2.5, (rows, layers))


def level_of(curves: FloatArray, values: FloatArray) -> float:
    """Geometric mean of divergence / sum of own ones, with one more of 1."""
    ratios = [*np.log(values / curves.sum(1)), 0.0]
    return float(np.exp(np.mean(ratios)))


@pytest.mark.parametrize("missing", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_bounded_least_squares_of_the_stacked_system(seed: int, missing: float) -> None:
    curves, steeps = data(seed)
    rng = np.random.default_rng(seed + 50)
    values = curves.sum(1) * np.exp(rng.normal(0, 0.5, len(curves)))
    slopes = steeps * rng.normal(0.8, 1.2, steeps.shape)  # some want a price below 0
    slopes[rng.random(slopes.shape) < missing] = np.nan
    level, rows, right = level_of(curves, values), [], []
    for row, value in enumerate(values):
        rows.append(curves[row] / value)
        right.append(1.0)
        for layer in np.flatnonzero(np.isfinite(slopes[row])):
            rows.append(SLOPE / value * steeps[row, layer] * np.eye(6)[layer])
            right.append(SLOPE / value * slopes[row, layer])
    for unit in np.eye(6):
        rows.append(PULL / level * unit)
        right.append(PULL)
    best = lsq_linear(np.array(rows), np.array(right), bounds=(0, np.inf), tol=1e-14)
    assert fit_prices(curves, steeps, values, slopes) == pytest.approx(best.x, abs=1e-5)


def test_known_prices_come_back_from_slopes() -> None:
    curves, steeps = data(7, rows=20)
    truth = np.array([0.2, 0.5, 1.0, 1.5, 2.0, 3.0])
    found = fit_prices(curves, steeps, curves @ truth, truth * steeps, pull=1e-6)
    assert found == pytest.approx(truth, rel=1e-4)


def test_few_values_alone_move_prices_little() -> None:
    curves, steeps = data(3, rows=4)
    noise = np.random.default_rng(0).normal(0, 0.05, 4)
    found = fit_prices(curves, steeps, curves.sum(1) * np.exp(noise), np.full((4, 6), np.nan))
    assert found == pytest.approx(np.ones(6), abs=0.25)
    exact = fit_prices(curves, steeps, curves.sum(1), np.full((4, 6), np.nan))
    assert exact == pytest.approx(np.ones(6), abs=1e-9)


def test_layers_without_curve_or_slope_stay_at_the_common_level() -> None:
    curves, steeps = data(5)
    curves[:, 2] = steeps[:, 2] = 0.0
    values = 2 * curves.sum(1)
    found = fit_prices(curves, steeps, values, 2 * steeps)
    assert (found >= 0).all()
    assert found[2] == pytest.approx(level_of(curves, values))
