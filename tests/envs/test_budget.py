"""Budgets are spent to the weight; what a layer may take is exactly what leaves a way to finish."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.budget import (
    check_feasible,
    count_bounds,
    feasible_interval,
    largest_remainder,
    project,
)
from envs.problem import FloatArray, IntArray


@st.composite
def bounded_layers(
    draw: st.DrawFn, *, layers: int = 6, size: int = 400
) -> tuple[IntArray, IntArray, IntArray, int]:
    """Weights, least, most zeros and a budget that fits them."""
    weights = draw(st.lists(st.integers(1, size), min_size=1, max_size=layers))
    lower = [draw(st.integers(0, w)) for w in weights]
    upper = [draw(st.integers(low, w)) for low, w in zip(lower, weights, strict=True)]
    budget = draw(st.integers(sum(lower), sum(upper)))
    return np.array(weights), np.array(lower), np.array(upper), budget


def profiles(lower: IntArray, upper: IntArray, budget: int) -> list[tuple[int, ...]]:
    """Every profile within the bounds that spends the budget."""
    ranges = [range(low, up + 1) for low, up in zip(lower, upper, strict=True)]
    return [z for z in itertools.product(*ranges) if sum(z) == budget]


def water_fill(kept: FloatArray, least: FloatArray, most: FloatArray, wanted: int) -> FloatArray:
    """Scale and clip, the factor found by trying every breakpoint: an oracle for `project`."""
    cuts = np.unique(np.concatenate([least / kept, most / kept]))
    totals = [np.clip(kept * c, least, most).sum() for c in cuts]
    return np.clip(kept * np.interp(wanted, totals, cuts), least, most)


def test_bounds_keep_to_the_ratios_and_ignore_rounding_noise() -> None:
    weights = np.array([30, 7, 1])
    lower, upper = count_bounds(0.1, 0.995, weights)
    assert lower.tolist() == [3, 1, 0]  # 0.1 x 30 is 3 although the float product is above
    assert upper.tolist() == [29, 6, 0]  # below 1 means below all: no layer ever empty


def test_bounds_take_one_ratio_per_layer() -> None:
    lower, upper = count_bounds([0.0, 0.5], [0.0, 1.0], np.array([8, 8]))
    assert lower.tolist() == [0, 4]
    assert upper.tolist() == [0, 8]


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.5), (0.6, 0.5), (0.0, 1.5), (0.0, np.nan)])
def test_impossible_ratio_bounds_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="`ws_ratio_min`"):
        count_bounds(low, high, np.array([10, 10]))


@pytest.mark.parametrize(("budget", "flag"), [(99, "`ws_ratio_max`"), (1, "`ws_ratio_min`")])
def test_a_budget_out_of_reach_names_target_bounds_and_remedy(budget: int, flag: str) -> None:
    weights = np.array([50, 50])
    with pytest.raises(ValueError, match=f"0.{budget:02d} .*allow 0.2 to 0.9; .*{flag}"):
        check_feasible(budget, lower=np.array([10, 10]), upper=np.array([45, 45]), weights=weights)


@given(bounded_layers(layers=4, size=5), st.data())
def test_the_feasible_interval_is_what_brute_force_finds(
    case: tuple[IntArray, IntArray, IntArray, int], data: st.DataObject
) -> None:
    _, lower, upper, budget = case
    good = profiles(lower, upper, budget)
    chosen = np.array(data.draw(st.sampled_from(good)))
    index = data.draw(st.integers(0, len(lower) - 1))
    possible = {z[index] for z in good if z[:index] == tuple(chosen[:index])}
    least, most = feasible_interval(index, chosen, lower=lower, upper=upper, budget=budget)
    assert set(range(least, most + 1)) == possible


def test_a_dead_end_is_an_error() -> None:
    bounds = {"lower": np.array([0, 0]), "upper": np.array([5, 5])}
    with pytest.raises(ValueError, match="layer 1: 9 zeros are left"):
        feasible_interval(1, np.array([0]), budget=9, **bounds)


@given(bounded_layers(), st.data())
def test_rounding_is_exact_and_keeps_the_bounds(
    case: tuple[IntArray, IntArray, IntArray, int], data: st.DataObject
) -> None:
    _, lower, upper, total = case
    ideal = np.array([data.draw(st.floats(-10, 500)) for _ in lower])
    counts = largest_remainder(ideal, total, lower=lower, upper=upper)
    assert counts.sum() == total
    assert np.all((lower <= counts) & (counts <= upper))


def test_rounding_gives_ties_to_the_lowest_index() -> None:
    bounds = {"lower": np.zeros(4, np.int64), "upper": np.full(4, 9)}
    counts = largest_remainder(np.array([2.5, 2.5, 2.5, 2.5]), 12, **bounds)
    assert counts.tolist() == [3, 3, 3, 3]
    counts = largest_remainder(np.array([2.5, 2.5, 2.5, 2.5]), 10, **bounds)
    assert counts.tolist() == [3, 3, 2, 2]


def test_rounding_refuses_a_total_out_of_bounds() -> None:
    with pytest.raises(ValueError, match="5 zeros cannot be split"):
        largest_remainder(np.array([1.0]), 5, lower=np.array([0]), upper=np.array([4]))


@given(bounded_layers(size=10_000), st.data())
def test_projection_is_exact_and_projecting_twice_changes_nothing(
    case: tuple[IntArray, IntArray, IntArray, int], data: st.DataObject
) -> None:
    weights, lower, upper, budget = case
    zeros = np.array([data.draw(st.integers(0, int(w))) for w in weights])
    bounds = {"budget": budget, "lower": lower, "upper": upper, "weights": weights}
    exact = project(zeros, **bounds)
    assert exact.sum() == budget
    assert np.all((lower <= exact) & (exact <= upper))
    assert np.array_equal(project(exact, **bounds), exact)


@given(bounded_layers(layers=3, size=8), st.data())
def test_no_profile_is_closer_to_the_scaled_densities(
    case: tuple[IntArray, IntArray, IntArray, int], data: st.DataObject
) -> None:
    weights, lower, upper, budget = case
    zeros = np.array([data.draw(st.integers(0, int(w))) for w in weights])
    ours = project(zeros, budget=budget, lower=lower, upper=upper, weights=weights)
    if budget == zeros.sum() and np.all((lower <= zeros) & (zeros <= upper)):
        assert np.array_equal(ours, zeros)
        return
    kept = np.maximum(weights - zeros, 0.5)
    wanted = int(weights.sum()) - budget
    ideal = weights - water_fill(kept, weights - upper, weights - lower, wanted)
    distance = [float(np.square(np.array(z) - ideal).sum()) for z in profiles(lower, upper, budget)]
    assert float(np.square(ours - ideal).sum()) <= min(distance) + 1e-6


def test_projection_keeps_the_proportions_of_densities() -> None:
    weights = np.array([10_000, 20_000, 40_000])
    zeros = np.array([5_000, 15_000, 36_000])  # densities 0.5, 0.25, 0.1
    exact = project(zeros, budget=63_000, lower=0 * weights, upper=weights, weights=weights)
    density = 1 - exact / weights
    assert exact.sum() == 63_000
    np.testing.assert_allclose(density / density[0], [1.0, 0.5, 0.2], rtol=1e-3)


def test_projection_refuses_what_cannot_be() -> None:
    weights = np.array([10, 10])
    with pytest.raises(ValueError, match="cannot be met"):
        project(weights, budget=20, lower=0 * weights, upper=weights - 1, weights=weights)
