"""A critic is judged by rollouts that it had not seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from agents.critic import ProfileCritic
from agents.forecasts import NOISE, Forecast, critic_record
from agents.goal_search import GoalSearch
from agents.goals import curves_of
from agents.profile_buffer import observed
from agents.settle import scored_point
from envs.problem import AllocationProblem, Score
from tests.support.searchers import PER_ROUND, RLOUTS, seeds_of, small_problem
from ws_learner.search.history import Rollout
from ws_learner.search.loop import Search
from ws_learner.search.saved_search import load_search


def history_of(values: list[float], problem: AllocationProblem) -> list[Rollout]:
    def score(value: float) -> Score:
        failed = "" if value > 0 else "broken"
        return Score(
            reward=0.5, accuracy=0.5, accuracy_before=0.5, divergence=abs(value), failed=failed
        )

    return [Rollout(kind="critic", zeros=problem.prior, score=score(value)) for value in values]


def test_error_correlation_and_shares_are_those_of_the_definitions() -> None:
    problem = dataclasses.replace(small_problem()[0], by_divergence=True)
    truth, rng = np.array([0.5, 0.4, 0.3, 0.25, 0.2, 0.1]), np.random.default_rng(0)
    mean, deviation = np.log(truth) + rng.normal(0, 0.1, 6), rng.uniform(0.02, 0.1, 6)
    places = [(2, 0), (2, 1), (2, 2), (2, 3), (6, 0), (6, 1)]
    forecasts = [
        Forecast(known, place, m, d)
        for (known, place), m, d in zip(places, mean, deviation, strict=True)
    ]
    history = history_of([0.9, 0.8, *truth[:4].tolist(), *truth[4:].tolist()], problem)
    found = critic_record(forecasts, history, problem)
    assert found is not None
    error = np.abs(mean - np.log(truth))
    spread = np.sqrt(deviation**2 + 0.03**2)
    assert NOISE == 0.03
    assert (found["rounds"], found["rollouts"]) == (2, 6)
    assert found["rmse"] == pytest.approx(float(np.sqrt(np.mean(error**2))))
    expected = np.corrcoef(mean, np.log(truth))[0, 1]
    assert found["correlation"] == pytest.approx(float(expected))
    assert found["within_1"] == np.mean(error <= spread)
    assert found["within_2"] == np.mean(error <= 2 * spread)


def test_failed_rollouts_and_those_never_scored_do_not_count() -> None:
    problem = dataclasses.replace(small_problem()[0], by_divergence=True)
    forecasts = [Forecast(1, 0, np.log(0.5), 0.1), Forecast(1, 1, 0.0, 0.1)]
    forecasts += [Forecast(3, 0, 0.0, 0.1), Forecast(1, 2, 0.0, np.inf)]
    found = critic_record(forecasts, history_of([0.9, 0.5, -1.0], problem), problem)
    assert found is not None
    assert (found["rounds"], found["rollouts"], found["rmse"]) == (1, 1, 0.0)
    assert found["correlation"] is None
    assert critic_record([], history_of([0.9], problem), problem) is None


def test_forecasts_are_those_of_a_critic_fitted_to_earlier_rounds_only(tmp_path: Path) -> None:
    problem, _ = small_problem()
    proposer = GoalSearch(problem, seed=0, rollouts=RLOUTS, updates=1)
    history = Search(
        problem=problem,
        proposer=proposer,
        seeds=seeds_of(problem),
        rollouts=RLOUTS,
        per_round=PER_ROUND,
        state=tmp_path / "search.pt",
        table=tmp_path / "rollouts.csv",
    ).run()
    proposer.learn(history)
    assert len(proposer.forecasts) == RLOUTS - len(
        {z.tobytes() for z in seeds_of(problem).values()}
    )
    for one in proposer.forecasts[:: PER_ROUND + 1]:
        known = [observed(r.zeros, r.score, problem) for r in history[: one.known]]
        critic = ProfileCritic.fit(curves_of(problem), [seen for seen in known if seen is not None])
        point = scored_point(history[one.known + one.place].zeros, problem)[None]
        assert one.mean == pytest.approx(float(critic(point)[0][0]), abs=1e-9)
        assert one.deviation == pytest.approx(float(critic.deviation(point)[0]), abs=1e-9)
    resumed = GoalSearch(problem, seed=0, rollouts=RLOUTS, updates=1)
    resumed.restore(load_search(tmp_path / "search.pt", rewarded="").proposer)  # type: ignore[union-attr]
    assert len(resumed.forecasts) < len(proposer.forecasts)  # not yet those of the last round
    resumed.learn(history)
    assert resumed.forecasts == proposer.forecasts
