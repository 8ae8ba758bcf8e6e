"""The residual process: conditioning of a joint Gaussian whose covariances are numerical."""

from __future__ import annotations

import numpy as np
import pytest

from agents.residual import DEVIATION, VALUE_NOISE, ResidualProcess
from envs.problem import FloatArray

LENGTH, SLOPE_NOISE = 4.0, 0.15  # the defaults
STEP = 1e-3


def kernel(a: FloatArray, b: FloatArray) -> FloatArray:
    apart = ((a[:, None] - b[None]) ** 2).sum(-1)
    result: FloatArray = DEVIATION**2 * np.exp(-apart / (2 * LENGTH**2))
    return result


def functionals(points: FloatArray, known: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Every value and known derivative as a sum of values: (T, D) places, (K, T) coefficients."""
    places, rows = [], []
    for point in points:
        rows.append({len(places): 1.0})
        places.append(point)
    for point, axes in zip(points, known, strict=True):
        for axis in np.flatnonzero(axes):
            shift = STEP * np.eye(len(point))[axis]
            rows.append({len(places): 0.5 / STEP, len(places) + 1: -0.5 / STEP})
            places += [point + shift, point - shift]
    matrix = np.zeros((len(rows), len(places)))
    for row, entries in enumerate(rows):
        for place, value in entries.items():
            matrix[row, place] = value
    return np.array(places), matrix


def brute_force(
    points: FloatArray, values: FloatArray, slopes: FloatArray, x: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Posterior mean and standard deviation at x (M, D)."""
    places, matrix = functionals(points, np.isfinite(slopes))
    noise = [VALUE_NOISE**2] * len(points) + [SLOPE_NOISE**2] * int(np.isfinite(slopes).sum())
    seen = matrix @ kernel(places, places) @ matrix.T + np.diag(noise)
    observed = np.concatenate([values, slopes[np.isfinite(slopes)]])
    across = kernel(x, places) @ matrix.T
    mean = across @ np.linalg.solve(seen, observed)
    spread = DEVIATION**2 - np.einsum("mk,km->m", across, np.linalg.solve(seen, across.T))
    return mean, np.sqrt(spread)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_posterior_is_the_conditional_of_a_joint_gaussian(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    points, x = rng.normal(-2, 1.5, (6, 4)), rng.normal(-2, 1.5, (5, 4))
    values, slopes = rng.normal(0, 0.3, 6), rng.normal(0, 0.3, (6, 4))
    slopes[rng.random((6, 4)) >= share] = np.nan
    process = ResidualProcess.given(points, values, slopes)
    mean, spread = brute_force(points, values, slopes, x)
    found, gradient = process.predict(x)
    assert found == pytest.approx(mean, abs=1e-6)
    assert process.deviation(x) == pytest.approx(spread, abs=1e-6)
    for axis in range(4):
        shift = 1e-5 * np.eye(4)[axis]
        numeric = (process.predict(x + shift)[0] - process.predict(x - shift)[0]) / 2e-5
        assert gradient[:, axis] == pytest.approx(numeric, abs=1e-8)


def test_far_away_nothing_is_known_and_nearby_much() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(-2, 0.3, (8, 5))
    process = ResidualProcess.given(points, rng.normal(0, 0.1, 8), np.zeros((8, 5)))
    far = points[:1] + 100.0
    assert process.predict(far)[0] == pytest.approx([0.0])
    assert process.deviation(far) == pytest.approx([DEVIATION])
    assert (process.deviation(points) < VALUE_NOISE).all()


def test_repeated_profiles_are_averaged() -> None:
    point = np.full((1, 3), -2.0)
    values = np.array([0.1, 0.3, 0.2, 0.2])
    process = ResidualProcess.given(np.repeat(point, 4, 0), values, np.full((4, 3), np.nan))
    share = DEVIATION**2 / (DEVIATION**2 + VALUE_NOISE**2 / 4)
    assert process.predict(point)[0] == pytest.approx([share * 0.2])
