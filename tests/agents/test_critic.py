"""The critic: its gradient, missing slopes, and which rows of a long history are kept."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from agents.critic import Observed, ProfileCritic
from envs.own_curves import OwnCurves
from envs.problem import FloatArray

DENSITIES = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7])
LAYERS = 6
CURVES = OwnCurves(
    DENSITIES,
    np.exp(-np.linspace(1, 2, LAYERS)[:, None] - 5 * DENSITIES),
    np.array([500, 900, 2000, 4000, 9000, 300]),
)
PRICES = np.array([0.4, 0.7, 1.0, 1.4, 2.0, 1.0])


def truth(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Divergences (N,) and slopes (N, L) of an additive network with these prices."""
    own, steep = CURVES(x)
    return own @ PRICES, PRICES * steep


def profiles(seed: int, count: int, layers: int = LAYERS) -> FloatArray:
    rng = np.random.default_rng(seed)
    return np.minimum(-2.0 + rng.normal(0, 0.6, (count, layers)), -1e-2)


def seen(points: FloatArray, *, slopes: bool = True) -> list[Observed]:
    values, steep = truth(points)
    steep = steep if slopes else np.full(points.shape, np.nan)
    rows = zip(points, values.tolist(), steep, strict=True)
    return [Observed(point=p, executed=p - 0.3, value=v, slopes=s) for p, v, s in rows]


def rmse(critic: ProfileCritic, points: FloatArray) -> float:
    return float(np.sqrt(np.mean((critic(points)[0] - np.log(truth(points)[0])) ** 2)))


def test_the_gradient_is_that_of_the_value() -> None:
    critic, x, step = ProfileCritic.fit(CURVES, seen(profiles(0, 8))), profiles(1, 5), 1e-6
    _, slope = critic(x)
    for layer in range(LAYERS):
        shift = step * np.eye(LAYERS)[layer]
        numeric = (critic(x + shift)[0] - critic(x - shift)[0]) / (2 * step)
        assert slope[:, layer] == pytest.approx(numeric, abs=1e-5)


def test_without_observations_it_is_the_sum_of_own_divergences() -> None:
    critic, x = ProfileCritic.fit(CURVES, []), profiles(2, 4)
    assert critic(x)[0] == pytest.approx(np.log(CURVES(x)[0].sum(1)))
    assert np.isinf(critic.deviation(x)).all()


def test_slopes_teach_more_than_values() -> None:
    points, held_out = profiles(3, 5), profiles(4, 40)
    prior = rmse(ProfileCritic.fit(CURVES, []), held_out)
    by_values = rmse(ProfileCritic.fit(CURVES, seen(points, slopes=False)), held_out)
    by_slopes = rmse(ProfileCritic.fit(CURVES, seen(points)), held_out)
    assert by_slopes < 0.5 * by_values
    assert by_values < prior
    assert by_slopes < 0.05


def test_single_missing_and_infinite_slopes_do_no_harm() -> None:
    some = seen(profiles(5, 8))
    some[2].slopes[:] = np.nan
    some[4].slopes[1:3] = np.nan
    whole, held_out = ProfileCritic.fit(CURVES, some), profiles(6, 30)
    assert rmse(whole, held_out) < 0.1
    some[5].slopes[0] = -np.inf  # an outlier is clipped
    assert np.isfinite(ProfileCritic.fit(CURVES, some)(held_out)[0]).all()


@pytest.mark.parametrize("value", [0.0, 1e-7, 100.0])
def test_extreme_divergences_stay_finite(value: float) -> None:
    points = profiles(8, 6)
    extreme = [
        Observed(point=p, executed=p, value=value, slopes=np.full(LAYERS, -1e-9)) for p in points
    ]
    critic = ProfileCritic.fit(CURVES, extreme)
    mean, slope = critic(profiles(9, 10))
    assert np.isfinite(mean).all()
    assert np.isfinite(slope).all()
    assert (critic.prices >= 0).all()


def test_points_at_empty_and_dense_layers_stay_finite() -> None:
    points = profiles(10, 6)
    points[:, 0] = np.log(0.5 / 500)
    points[:, 1] = 0.0
    critic = ProfileCritic.fit(CURVES, seen(points))
    mean, slope = critic(np.vstack([points, np.zeros((1, LAYERS))]))
    assert np.isfinite(mean).all()
    assert np.isfinite(slope).all()


def test_a_long_history_keeps_the_newest_and_the_best() -> None:
    points = profiles(11, 700)
    critic = ProfileCritic.fit(CURVES, seen(points))
    assert critic.residual is not None
    rows = critic.residual.known.any(1)
    assert len(critic.residual.points) <= 300
    assert critic.residual.known.sum() <= 1300
    kept = critic.residual.points[rows]
    values = truth(points)[0]
    assert (kept == points[-1]).all(1).any()
    assert (kept == points[values.argmin()]).all(1).any()
    worst_of_old = points[values[:350].argmax()]
    assert not (critic.residual.points == worst_of_old).all(1).any()


def test_its_bits_do_not_depend_on_threads() -> None:
    points = profiles(12, 200)
    some, x = seen(points), profiles(13, 200)
    found = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            critic = ProfileCritic.fit(CURVES, some)
            found.append((critic.prices, *critic(x), critic.deviation(x)))
    for other in found[1:]:
        assert [each.tobytes() for each in other] == [each.tobytes() for each in found[0]]
