"""A walk through the layers: any actions end on the budget, executed actions are honest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.action_map import ActionMap
from envs.budget import project
from envs.episode import Episode, replay_episode, run_episode
from envs.features import FEATURES
from envs.problem import AllocationProblem, LayerRow
from tests.support.synthetic_problem import CURVE_RATIOS, synthetic_problem

ACTION = st.one_of(st.floats(-1, 1), st.sampled_from([-1.0, 0.0, 1.0]))


@st.composite
def problems(draw: st.DrawFn, *, exact: bool = True) -> AllocationProblem:
    """Any layers, any bounds, exempt ones among them, any budget they allow, any prior."""
    sizes = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=8))
    exempt = [draw(st.booleans()) for _ in sizes]
    lower = np.array(
        [0 if e else draw(st.integers(0, w)) for e, w in zip(exempt, sizes, strict=True)]
    )
    upper = np.array(
        [
            0 if e else draw(st.integers(int(lo), w))
            for e, lo, w in zip(exempt, lower, sizes, strict=True)
        ]
    )
    weights = np.array(sizes)
    # The extremes are where rounding and empty ranges bite.
    budget = draw(
        st.one_of(
            st.sampled_from([int(lower.sum()), int(upper.sum())]),
            st.integers(int(lower.sum()), int(upper.sum())),
        )
    )
    prior = np.array(
        [draw(st.integers(int(lo), int(hi))) for lo, hi in zip(lower, upper, strict=True)]
    )
    layers = tuple(
        LayerRow(
            name=f"l{i}",
            kind="linear",
            role="ff",
            shape=(w, 1),
            weights=w,
            macs=w,
            exempt=exempt[i],
        )
        for i, w in enumerate(sizes)
    )
    return AllocationProblem(
        layers=layers,
        target=budget / int(weights.sum()),
        lower=lower,
        upper=upper,
        prior=prior,
        curve_ratios=CURVE_RATIOS,
        curves=np.tile(CURVE_RATIOS, (len(sizes), 1)),
        evaluate=lambda candidates: [],
        exact=exact,
    )


@given(problems(), st.sampled_from(["log-density", "linear"]), st.data())
def test_any_actions_end_exactly_on_the_budget(
    problem: AllocationProblem, scale: str, data: st.DataObject
) -> None:
    action_map = ActionMap.of(problem, scale=scale)  # type: ignore[arg-type]
    end = run_episode(problem, action_map, choose=lambda _: data.draw(ACTION))
    assert end.zeros.sum() == problem.budget
    assert np.all((problem.lower <= end.zeros) & (end.zeros <= problem.upper))
    assert len(end.actions) == np.count_nonzero(problem.lower < problem.upper)


@given(problems(), st.data())
def test_executed_actions_lead_to_the_same_profile(
    problem: AllocationProblem, data: st.DataObject
) -> None:
    action_map = ActionMap.of(problem)
    first = run_episode(problem, action_map, choose=lambda _: data.draw(ACTION))
    executed = iter(first.actions)
    again = run_episode(problem, action_map, choose=lambda _: float(next(executed)))
    assert np.array_equal(first.zeros, again.zeros)
    np.testing.assert_array_equal(first.observations, again.observations)
    assert np.all(np.abs(first.actions) <= 1)


@given(problems(exact=False), st.data())
def test_without_a_budget_only_the_bounds_hold(
    problem: AllocationProblem, data: st.DataObject
) -> None:
    end = run_episode(problem, ActionMap.of(problem), choose=lambda _: data.draw(ACTION))
    assert np.all((problem.lower <= end.zeros) & (end.zeros <= problem.upper))
    up = run_episode(problem, ActionMap.of(problem), choose=lambda _: 1.0)
    assert np.array_equal(up.zeros, problem.upper)


@given(problems(), st.data())
def test_observations_are_bounded_numbers(problem: AllocationProblem, data: st.DataObject) -> None:
    end = run_episode(problem, ActionMap.of(problem), choose=lambda _: data.draw(ACTION))
    assert end.observations.shape == (len(end.actions) + 1, len(FEATURES))
    assert end.observations.dtype == np.float32
    assert np.all(np.abs(end.observations) <= 1)
    assert not end.observations[-1].any()


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_the_extreme_targets_leave_no_choice(target: float) -> None:
    problem, _ = synthetic_problem(upper=1.0, target=target)
    end = run_episode(problem, ActionMap.of(problem), choose=lambda _: 0.3)
    assert np.array_equal(end.zeros, target * problem.weights)


def test_a_demonstration_is_followed_exactly() -> None:
    problem, _ = synthetic_problem(target=0.9)
    rng = np.random.default_rng(0)
    wish = project(
        rng.uniform(0.5, 0.99, len(problem.layers)) * problem.weights,
        budget=problem.budget,
        lower=problem.lower,
        upper=problem.upper,
        weights=problem.weights,
    )
    assert np.array_equal(replay_episode(problem, ActionMap.of(problem), zeros=wish).zeros, wish)


def test_action_zero_is_the_prior() -> None:
    problem, _ = synthetic_problem(target=0.9)
    end = run_episode(problem, ActionMap.of(problem), choose=lambda _: 0.0)
    assert np.array_equal(end.zeros, problem.prior)
    np.testing.assert_array_equal(end.actions, 0.0)


def test_the_observation_says_what_its_table_says() -> None:
    problem, _ = synthetic_problem(target=0.9)
    episode = Episode(problem, ActionMap.of(problem))
    for action in (0.4, -0.2, 0.1):
        episode.step(action)
    seen = dict(zip(FEATURES, episode.observation.tolist(), strict=True))
    i, weights, zeros = 3, problem.weights, episode.zeros
    total = weights.sum()
    left = problem.budget - zeros[:i].sum()
    rest = weights[i:].sum()
    density = (rest - left) / rest
    expected = {
        "position": 3 / 21,
        "linear": 0.0,
        "kernel": np.log(9) / np.log(49),
        "inputs": 4 / 12,
        "outputs": 4 / 12,
        "size": weights[i] / weights.max(),
        "weights": weights[i] / total,
        "macs": problem.layers[i].macs / sum(row.macs for row in problem.layers),
        "reuse": 10 / 16,
        "prior": problem.prior[i] / weights[i],
        "target": 0.9,
        "kept_before": (weights - zeros)[:i].sum() / total,
        "to_come": weights[i + 1 :].sum() / total,
        "needed": left / rest,
        "shift": np.log(density / (1 - problem.prior[i:].sum() / rest)),
        "least": max(problem.lower[i], left - problem.upper[i + 1 :].sum()) / weights[i],
        "most": min(problem.upper[i], left - problem.lower[i + 1 :].sum()) / weights[i],
        "error_at_0.9": 1 + np.log10(problem.curves[i][CURVE_RATIOS == 0.9][0]) / 4,
    }
    for name, value in expected.items():
        assert seen[name] == pytest.approx(max(float(value), -1), abs=2e-3), name
    assert seen["previous_action"] == pytest.approx(0.1, abs=2e-3)


def test_a_budget_out_of_reach_is_refused() -> None:
    problem, _ = synthetic_problem(target=0.9)
    with pytest.raises(ValueError, match="`ws_ratio_max`"):
        Episode(replace(problem, target=0.999), ActionMap.of(problem))


def test_steps_beyond_the_end_and_actions_that_are_no_numbers_are_refused() -> None:
    problem, _ = synthetic_problem()
    episode = Episode(problem, ActionMap.of(problem))
    with pytest.raises(ValueError, match="action nan"):
        episode.step(float("nan"))
    while not episode.done:
        episode.step(0.0)
    with pytest.raises(ValueError, match="every layer is set"):
        episode.step(0.0)
