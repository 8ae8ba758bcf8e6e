"""Actions and prune ratios: monotone, three fixed points, exact inverses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.action_map import ActionMap, Scale
from tests.support.synthetic_problem import synthetic_problem

SCALES: list[Scale] = ["log-density", "linear"]


@st.composite
def maps(draw: st.DrawFn) -> ActionMap:
    points = draw(
        st.lists(
            st.one_of(st.floats(0, 1).map(lambda x: round(x, 4)), st.sampled_from([0.0, 1.0])),
            min_size=3,
            max_size=3,
        )
    )
    lower, prior, upper = (np.array([point]) for point in sorted(points))
    return ActionMap(lower=lower, prior=prior, upper=upper, scale=draw(st.sampled_from(SCALES)))


@given(maps())
def test_three_points_are_exact(action_map: ActionMap) -> None:
    assert action_map.ratio(-1.0, 0) == action_map.lower[0]
    assert action_map.ratio(0.0, 0) == action_map.prior[0]
    assert action_map.ratio(1.0, 0) == action_map.upper[0]


@given(maps(), st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=2, unique=True))
def test_more_action_is_more_pruning(action_map: ActionMap, actions: list[float]) -> None:
    actions.sort()
    ratios = [action_map.ratio(a, 0) for a in actions]
    assert all(0 <= r <= 1 for r in ratios)
    pairs = zip(itertools.pairwise(actions), itertools.pairwise(ratios), strict=True)
    for (a, b), (r, s) in pairs:
        flat_low = action_map.lower[0] == action_map.prior[0] and a < 0
        flat_high = action_map.upper[0] == action_map.prior[0] and b > 0
        if flat_low or flat_high:
            assert r <= s
        else:
            assert r < s


def test_a_flat_half_stays_flat_though_logarithms_round() -> None:
    flat = ActionMap(lower=np.array([0.247]), prior=np.array([0.247]), upper=np.array([0.5]))
    assert {flat.ratio(action, 0) for action in np.linspace(-1, 0, 101)} == {0.247}


@given(maps(), st.floats(-1, 1))
def test_the_inverse_maps_back(action_map: ActionMap, action: float) -> None:
    ratio = action_map.ratio(action, 0)
    back = action_map.action(ratio, 0)
    assert -1 <= back <= 1
    assert action_map.ratio(back, 0) == pytest.approx(ratio, abs=1e-9)
    low, prior, high = action_map.lower[0], action_map.prior[0], action_map.upper[0]
    if min(prior - low, high - prior) > 1e-3:
        assert back == pytest.approx(action, abs=1e-9)


@given(maps(), st.floats(0, 1))
def test_every_ratio_within_bounds_has_an_action(action_map: ActionMap, share: float) -> None:
    low, high = action_map.lower[0], action_map.upper[0]
    ratio = low + share * (high - low)
    assert action_map.ratio(action_map.action(ratio, 0), 0) == pytest.approx(ratio, abs=1e-9)


def test_ratios_beyond_the_bounds_are_the_ends() -> None:
    action_map = ActionMap(lower=np.array([0.2]), prior=np.array([0.5]), upper=np.array([0.9]))
    assert action_map.action(0.1, 0) == -1
    assert action_map.action(0.95, 0) == 1
    assert action_map.ratio(3.0, 0) == 0.9


def test_half_an_action_is_half_way_in_log_density() -> None:
    action_map = ActionMap(lower=np.array([0.0]), prior=np.array([0.84]), upper=np.array([0.99]))
    assert 1 - action_map.ratio(0.5, 0) == pytest.approx(np.sqrt(0.16 * 0.01))
    assert 1 - action_map.ratio(-0.5, 0) == pytest.approx(np.sqrt(0.16 * 1.0))


@given(st.integers(0, 21), st.data())
def test_a_count_survives_the_way_through_its_action(layer: int, data: st.DataObject) -> None:
    problem, _ = synthetic_problem(target=0.9)
    action_map = ActionMap.of(problem)
    zeros = data.draw(st.integers(int(problem.lower[layer]), int(problem.upper[layer])))
    weights = int(problem.weights[layer])
    back = action_map.ratio(action_map.action(zeros / weights, layer), layer)
    assert round(back * weights) == zeros


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"prior": np.array([0.1])}, "layer 0: prior ratio 0.1"),
        ({"upper": np.array([1.5])}, "`ws_ratio_max`"),
        ({"lower": np.array([np.nan])}, "`ws_ratio_min`"),
        ({"scale": "cubic"}, "'log-density', 'linear'"),
        ({"density_floor": 0.0}, "density_floor"),
    ],
)
def test_unusable_maps_are_refused(change: dict[str, object], text: str) -> None:
    usual: dict[str, object] = {
        "lower": np.array([0.2]),
        "prior": np.array([0.5]),
        "upper": np.array([0.9]),
    }
    with pytest.raises(ValueError, match=text):
        ActionMap(**(usual | change))  # type: ignore[arg-type]
