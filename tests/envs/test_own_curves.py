"""Curves of own divergences: through the measured points, monotone, with the right derivative."""

from __future__ import annotations

import numpy as np
import pytest

from envs.own_curves import OwnCurves
from envs.problem import FloatArray

DENSITIES = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7])


def falling(rng: np.random.Generator, layers: int) -> FloatArray:
    steps = rng.exponential(1.0, (layers, len(DENSITIES))) * rng.integers(0, 2, (layers, 1))
    return np.exp(np.cumsum(steps[:, ::-1], 1)[:, ::-1] - 6.0)


@pytest.mark.parametrize("seed", range(5))
def test_measured_points_are_met_and_a_dense_layer_has_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(500, 50_000, 6)
    values = falling(rng, 6)
    curves = OwnCurves(DENSITIES, values, sizes)
    for place, density in enumerate(DENSITIES[1:], 1):
        kept = np.rint(density * sizes)  # as it was measured: whole weights
        assert curves(np.log(kept / sizes))[0] == pytest.approx(values[:, place], rel=1e-6)
    empty = np.log(0.5 / sizes)
    assert curves(empty)[0] == pytest.approx(values[:, 0], rel=1e-6)
    assert curves(empty - 5.0)[0] == pytest.approx(values[:, 0], rel=1e-6)
    value, slope = curves(np.zeros(6))
    assert (value < 1e-4 * values[:, -1]).all()
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10])
def test_tiny_layers_have_the_value_measured_at_every_count(size: int) -> None:
    def truth(kept: float) -> float:
        return 5.0 * (1 - kept / size) ** 3

    measured = [truth(round(density * size)) for density in DENSITIES]
    curves = OwnCurves(DENSITIES, np.array([measured]), np.array([size]))
    for kept in {round(density * size) for density in DENSITIES} - {size}:
        value, slope = curves(np.log([max(kept, 0.5) / size]))
        assert value[0] == pytest.approx(truth(kept), rel=1e-5)
        assert np.isfinite(slope[0])
    assert curves(np.zeros(1))[0][0] < 1e-4 * measured[-1] + 2e-6


EXTREMES = {
    "equal": np.full(8, 0.3),
    "zeros": np.zeros(8),
    "huge": np.array([1e6, 1e5, 1e5, 100.0, 100.0, 1.0, 1e-3, 1e-7]),
    "rising": np.linspace(0.1, 1, 8),
    "cliff": np.array([100.0, 100, 100, 100, 100, 100, 100, 0]),
}


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("size", [1, 2, 3, 50, 100_000])
def test_extremes_stay_finite_and_monotone(name: str, size: int) -> None:
    curves = OwnCurves(DENSITIES, EXTREMES[name][None], np.array([size]))
    x = np.linspace(np.log(0.2 / size), 0, 4001)[:, None]
    value, slope = curves(x)
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()
    assert (np.diff(value[:, 0]) <= 1e-12 * value[:-1, 0]).all()
    assert (slope <= 1e-12).all()
    assert (value >= 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_derivative_is_that_of_the_value(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = OwnCurves(DENSITIES, falling(rng, 5), np.array([40, 400, 4000, 40_000, 3]))
    knots = curves._knots
    x = np.linspace(np.log(0.6 / 40_000), -1e-3, 3000)[:, None] + np.zeros(5)
    near = np.abs(x[..., None] - knots).min(-1) < 1e-4  # the derivative jumps at the ends
    step = 1e-6
    numeric = (curves(x + step)[0] - curves(x - step)[0]) / (2 * step)
    value, slope = curves(x)
    assert slope[~near] == pytest.approx(numeric[~near], rel=1e-4, abs=1e-6)
    assert value.shape == slope.shape == x.shape


def test_densities_that_cannot_be_interpolated_are_refused() -> None:
    for densities in ([0.1, 0.5], [0.0, 0.5, 1.0], [0.0, 0.5, 0.5]):
        with pytest.raises(ValueError, match="ascend from 0"):
            OwnCurves(np.array(densities), np.ones((1, len(densities))), np.array([9]))
