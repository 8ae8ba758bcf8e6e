"""The surrogate: agrees with scikit-learn, keeps its choices apart, ranks what it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from agents.gaussian_process import GaussianProcess
from agents.logits import LogitSpace
from agents.surrogate import Surrogate, expected_improvement
from envs.problem import FloatArray, IntArray, Score
from tests.support.synthetic_problem import synthetic_problem


def sample(seed: int, count: int = 25, size: int = 4) -> tuple[FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, size))
    values = np.sin(points[:, 0]) + 0.3 * points[:, 1] ** 2 + rng.normal(0, 0.05, count)
    return points, values, rng.normal(size=(10, size))


@pytest.mark.parametrize(("length", "noise"), [(1.0, 1e-2), (3.0, 1e-3), (0.5, 0.3)])
def test_posterior_and_evidence_agree_with_scikit_learn(length: float, noise: float) -> None:
    points, values, new = sample(0)
    ours = GaussianProcess.given((points,), values, lengths=(length,), noise=noise)
    kernel = ConstantKernel(ours.variance) * Matern(length, nu=2.5)
    theirs = GaussianProcessRegressor(
        kernel + WhiteKernel(ours.variance * noise), optimizer=None, alpha=0
    ).fit(points, values - ours.mean)
    mean, std = ours.predict((new,))
    expected_mean, expected_std = theirs.predict(new, return_std=True)
    np.testing.assert_allclose(mean - ours.mean, expected_mean, atol=1e-8)
    # Theirs includes the noise of a new observation, ours is of the function alone.
    np.testing.assert_allclose(std**2 + ours.variance * noise, expected_std**2, atol=1e-8)
    assert ours.evidence == pytest.approx(theirs.log_marginal_likelihood_value_, abs=1e-6)


def test_mean_and_variance_are_those_of_greatest_likelihood() -> None:
    points, values, _ = sample(1)
    ours = GaussianProcess.given((points,), values, lengths=(2.0,), noise=0.01)

    def evidence(mean: float, variance: float) -> float:
        kernel = ConstantKernel(variance) * Matern(2.0, nu=2.5) + WhiteKernel(variance * 0.01)
        model = GaussianProcessRegressor(kernel, optimizer=None, alpha=0)
        return float(model.fit(points, values - mean).log_marginal_likelihood_value_)

    best = evidence(ours.mean, ours.variance)
    for factor in (0.9, 1.1):
        assert evidence(ours.mean, factor * ours.variance) < best
        assert evidence(ours.mean + factor - 1, ours.variance) < best


def test_fit_takes_the_most_likely_of_the_grid_and_predicts_unseen_points() -> None:
    points, values, _ = sample(2, count=60)
    model = GaussianProcess.fit((points[:40],), values[:40])
    mean, std = model.predict((points[40:],))
    assert np.corrcoef(mean, values[40:])[0, 1] > 0.9
    assert np.mean(np.abs(values[40:] - mean) < 3 * std + 0.15) > 0.9
    assert (
        model.evidence
        >= GaussianProcess.given((points,), values, lengths=(64.0,), noise=0.5).evidence
    )


def test_one_trial_and_equal_trials_are_no_trouble() -> None:
    one = GaussianProcess.fit((np.zeros((1, 3)),), np.array([2.0]))
    assert one.predict((np.ones((2, 3)),))[0].tolist() == pytest.approx([2.0, 2.0])
    same = GaussianProcess.fit((np.ones((5, 2)),), np.full(5, 3.0))
    assert np.isfinite(same.predict((np.zeros((1, 2)),))[1]).all()


@settings(deadline=None, max_examples=40)
@given(st.floats(-3, 3), st.floats(0.05, 3), st.floats(-3, 3))
def test_expected_improvement_is_the_average_gain(mean: float, std: float, best: float) -> None:
    grid = np.linspace(-8, 8, 20001)
    density = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
    gains = np.maximum(mean + std * grid - best, 0) * density
    expected = float(np.trapezoid(gains, grid))
    got = float(expected_improvement(np.array([mean]), np.array([std]), best)[0])
    assert got == pytest.approx(expected, abs=1e-4)


@dataclass
class Tried:
    kind: str
    zeros: IntArray
    score: Score


@pytest.mark.parametrize("by_errors", [False, True])
def test_choices_of_a_round_differ_and_the_model_ranks_unseen_profiles(by_errors: bool) -> None:
    problem, evaluator = synthetic_problem(seed=0, every=2)
    space, rng = LogitSpace(problem), np.random.default_rng(0)
    start = space.encode(problem.prior)
    noise = rng.normal(0, 0.3, (90, space.size))
    every = np.arange(space.size)
    profiles = [space.decode(start + n, around=problem.prior, moving=every) for n in noise]
    history = [
        Tried("random", zeros, score)
        for zeros, score in zip(profiles[:60], evaluator(profiles[:60]), strict=True)
    ]
    model = Surrogate(space, history, by_errors=by_errors)
    new = space.encode(np.stack(profiles[60:]))
    truth = [evaluator.reward(zeros) for zeros in profiles[60:]]
    assert np.corrcoef(model.expect(new), truth)[0, 1] > 0.7
    chosen = model.select(np.vstack([new, new[:1], new[:1]]), count=6)
    assert len(set(chosen)) == 6


def test_a_point_has_the_errors_of_its_profile() -> None:
    problem, evaluator = synthetic_problem(seed=2, every=2)
    space = LogitSpace(problem)
    errors = space.errors(space.encode(problem.prior))
    exact = evaluator.error(1.0 - problem.prior / problem.weights)
    # 95 % is one of the ratios at which the curves were measured.
    np.testing.assert_allclose(errors, exact[space.free], atol=0.01)


def test_points_and_profiles_translate_both_ways() -> None:
    problem, _ = synthetic_problem(seed=1)
    space = LogitSpace(problem)
    every = np.arange(space.size)
    point = space.encode(problem.prior)
    back = space.decode(point, around=problem.prior, moving=every)
    assert back.tolist() == problem.prior.tolist()
    settled = space.settle(point + np.random.default_rng(0).normal(size=(20, space.size)))
    for row in settled:
        zeros = space.decode(row, around=problem.prior, moving=every)
        assert zeros.sum() == problem.budget
        # Settling did all but the rounding.
        ideal = problem.weights / (1 + np.exp(row))
        assert np.abs(zeros - ideal).max() < 2
