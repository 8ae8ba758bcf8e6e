"""Exploration: a truncated normal that is one, and a spread with a floor."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, truncnorm

from agents.exploration import NoiseSchedule, truncated_normal


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.5), (0.9, 0.3), (-1.0, 0.05), (1.0, 3.0)])
def test_draws_follow_the_truncated_normal_of_scipy(mean: float, std: float) -> None:
    draws = truncated_normal(np.full(4000, mean), std, rng=np.random.default_rng(0))
    oracle = truncnorm((-1 - mean) / std, (1 - mean) / std, loc=mean, scale=std)
    assert kstest(draws, oracle.cdf).pvalue > 0.01
    assert np.all(np.abs(draws) <= 1)
    assert np.count_nonzero(np.abs(draws) == 1) == 0  # no heap on the bounds


def test_every_draw_costs_one_uniform_number() -> None:
    rng, counter = np.random.default_rng(5), np.random.default_rng(5)
    truncated_normal(np.zeros((3, 2)), 0.4, rng=rng)
    truncated_normal(0.99, 1e-3, rng=rng)
    counter.random(7)
    assert rng.random() == counter.random()


def test_no_spread_is_the_mean() -> None:
    rng = np.random.default_rng(0)
    assert truncated_normal([0.3, -1.0], 0.0, rng=rng).tolist() == [0.3, -1.0]


def test_the_spread_starts_decays_and_stops() -> None:
    schedule = NoiseSchedule(std_init=0.5, std_final=0.1, decay=0.9, warm_up=3)
    stds = [schedule.std(k) for k in range(60)]
    assert stds[:4] == [0.5] * 4
    assert stds[5] == pytest.approx(0.5 * 0.81)
    assert stds[-1] == 0.1
    assert stds == sorted(stds, reverse=True)
