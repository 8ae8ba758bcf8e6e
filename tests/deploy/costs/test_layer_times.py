"""Times between measured densities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ws_learner.deploy.costs.layer_times import LayerTimes, isotonic

TIMES = st.lists(st.floats(0.01, 10), min_size=1, max_size=8)


@given(TIMES)
def test_isotonic_is_the_nearest_monotone_sequence(values: list[float]) -> None:
    """Against the closed form: the largest mean from some start of the least mean to some end."""
    count = len(values)
    wanted = [
        max(min(np.mean(values[a : b + 1]) for b in range(i, count)) for a in range(i + 1))
        for i in range(count)
    ]
    found = isotonic([(float(i), v) for i, v in enumerate(values)])
    assert [v for _, v in found] == pytest.approx(wanted)


@given(TIMES, st.floats(0.02, 12), st.floats(0.02, 12))
def test_more_weights_never_cost_less(values: list[float], base: float, dense: float) -> None:
    densities = np.linspace(0.02, 0.5, len(values)).tolist()
    points = tuple(zip(densities, values, strict=True))
    times = LayerTimes(base=base, dense={"fp32": min(base, dense)}, sparse={"4x1 fp32": points})
    found = [times.at(d, "4x1", "fp32") for d in np.linspace(0, 1, 101)]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(found))
    assert max(found) <= base


def test_between_two_points_it_is_linear() -> None:
    points = ((0.1, 1.0), (0.3, 2.0))
    times = LayerTimes(base=10.0, dense={"fp32": 8.0}, sparse={"4x1 fp32": points})
    assert times.at(0.2, "4x1", "fp32") == pytest.approx(1.5)
    assert times.at(0.05, "4x1", "fp32") == 1.0, "level below the sparsest point"
    assert times.at(0.5, "4x1", "fp32") == pytest.approx(3.0), "on along the last line"
    assert times.at(1.0, "4x1", "fp32") == 8.0


def test_a_kernel_that_gains_less_than_five_percent_leaves_the_layer_as_it_is() -> None:
    points = ((0.1, 0.96), (0.3, 0.97))
    times = LayerTimes(base=1.0, dense={"fp32": 0.99}, sparse={"4x1 fp32": points})
    assert times.at(0.2, "4x1", "fp32") == 1.0


def test_without_kernels_zeros_change_nothing() -> None:
    times = LayerTimes(base=None, dense={"fp32": 2.0, "int8": 3.0})
    assert [times.at(d, "4x1", "fp32") for d in (0.02, 0.5, 1.0)] == [2.0] * 3
    assert times.at(0.02, "4x1", "int8") == 3.0, "bytes may be slower"


def test_parts_of_a_base() -> None:
    parts = LayerTimes(base=1.0, dense={"fp32": 0.5}, sparse={"4x1 fp32": ((0.1, 0.25),)})
    assert parts.times(8.0).plain() == {
        "base": 8.0,
        "dense": {"fp32": 4.0},
        "sparse": {"4x1 fp32": [[0.1, 2.0]]},
    }
