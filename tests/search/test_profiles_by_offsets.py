"""`owl` and `progression`: fixed differences of ratios, and a level that meets the budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.budget import project
from envs.curves import error_at
from envs.own_curves import OwnCurves
from envs.problem import FloatArray, IntArray
from tests.support.layer_rows import layer_rows
from ws_learner.core import UserError
from ws_learner.search.closed_form import CLOSED_FORM
from ws_learner.search.context import AllocationContext
from ws_learner.search.owl import outlier_share
from ws_learner.search.progression import SLOPES, progression_at

FEW = settings(deadline=None, max_examples=40)
RANGE = 0.08  # the paper's lambda
RATIOS = np.array([0.0, 0.5, 0.8, 0.9, 0.95])
Counts = FloatArray | IntArray
NAMES = pytest.mark.parametrize("name", ["owl", "progression"])


def scores_with(outliers: int, size: int) -> FloatArray:
    """Scores of which so many are six times the mean; less than a sixth of all."""
    scores = np.ones(size)
    scores[:outliers] = 6 * (size - outliers) / (size - 6 * outliers)
    return scores


def context_of(
    sizes: Sequence[int],
    *,
    ratio: float,
    bounds: Sequence[tuple[float, float]] | None = None,
    outliers: Sequence[int] | None = None,
    curves: FloatArray | None = None,
) -> AllocationContext:
    """The budget lies at `ratio` of the way from the least to the most zeros."""
    size = np.array(sizes)
    low, high = np.array(bounds or [(0.0, 1.0)] * len(size)).T
    upper = np.floor(size * high).astype(np.int64)
    lower = np.minimum(np.ceil(size * low).astype(np.int64), upper)
    measured = np.tile(RATIOS**2, (len(size), 1)) if curves is None else curves
    counts = outliers or [0] * len(size)
    return AllocationContext(
        layers=layer_rows(list(sizes)),
        budget=int(lower.sum()) + round(ratio * int((upper - lower).sum())),
        lower=lower,
        upper=upper,
        magnitudes=lambda: [np.ones(n) for n in sizes],
        curves=lambda: (RATIOS, measured),
        wanda_scores=lambda: [scores_with(k, n) for k, n in zip(counts, sizes, strict=True)],
    )


@st.composite
def contexts(draw: st.DrawFn) -> tuple[AllocationContext, list[float]]:
    """A context, and each layer's share of outliers."""
    sizes = draw(st.lists(st.integers(1, 3000), min_size=1, max_size=6))
    unit = st.floats(0, 1)
    bounds = [(min(a, b), max(a, b)) for a, b in (draw(st.tuples(unit, unit)) for _ in sizes)]
    if draw(st.booleans()):
        bounds[0] = (0.0, 0.0)  # exempt
    if draw(st.booleans()):
        bounds[-1] = (0.5, 0.5)  # held
    rng = np.random.default_rng(draw(st.integers(0, 100)))
    outliers = [int(rng.integers(0, 1 + n // 8)) for n in sizes]
    curves = np.sort(rng.random((len(sizes), len(RATIOS))), axis=1)
    curves[:, 0] = 0
    context = context_of(sizes, ratio=draw(unit), bounds=bounds, outliers=outliers, curves=curves)
    return context, [count / size for count, size in zip(outliers, sizes, strict=True)]


def level_of(
    offsets: FloatArray, low: Counts, high: Counts, *, size: IntArray, budget: int
) -> float:
    """The least level at which clipped ratios meet the budget, by the corners of their sum."""
    corners = np.sort(np.concatenate([low / size - offsets, high / size - offsets]))
    sums = [float(np.clip((offsets + c) * size, low, high).sum()) for c in corners]
    place = next(i for i, total in enumerate(sums) if total >= budget - 1e-6)
    if place == 0:
        return float(corners[0])
    share = (budget - sums[place - 1]) / (sums[place] - sums[place - 1])
    return float(corners[place - 1] + share * (corners[place] - corners[place - 1]))


def assert_near(zeros: IntArray, ideal: FloatArray, context: AllocationContext) -> None:
    """Exact in sum, within bounds, and rounded from `ideal`."""
    assert zeros.dtype == np.int64
    assert zeros.sum() == context.budget
    assert np.all((context.lower <= zeros) & (zeros <= context.upper))
    assert np.abs(zeros - ideal).max() < 1 + 1e-6


def test_outliers_are_the_scores_above_five_times_their_mean() -> None:
    scores = np.random.default_rng(0).exponential(size=1000)
    mean = sum(scores) / 1000
    assert outlier_share(scores) == len([s for s in scores if s > 5 * mean]) / 1000 > 0
    assert outlier_share(np.array([6.0, *[0.2] * 5, 0.0, 0.0])) == 1 / 8
    assert outlier_share(np.zeros(3)) == 0


def test_owl_gives_more_outliers_a_lower_ratio_within_the_papers_range() -> None:
    context = context_of([1000, 1000, 1000], ratio=0.7, outliers=[100, 0, 50])
    assert CLOSED_FORM["owl"](context).tolist() == [620, 780, 700]


def test_owl_weighs_layers_by_size_and_keeps_the_range() -> None:
    # One layer of many has the outliers: the others would all go to S + 0.08.
    context = context_of([1000, 9000], ratio=0.7, outliers=[100, 0])
    low, high = CLOSED_FORM["owl"](context)
    assert low == 620
    assert high == 6380
    same = context_of([1000, 9000], ratio=0.7, outliers=[10, 90])
    assert CLOSED_FORM["owl"](same).tolist() == [700, 6300]


@FEW
@given(drawn=contexts())
def test_owl_is_its_formula(drawn: tuple[AllocationContext, list[float]]) -> None:
    context, shares = drawn
    size, low, high = context.weights, context.lower, context.upper
    open_ = [share for share, a, b in zip(shares, low, high, strict=True) if a < b]
    rare, often = (min(open_), max(open_)) if open_ else (0.0, 0.0)
    offsets = [
        RANGE * (rare + often - 2 * d) / (often - rare) if often > rare else 0 for d in shares
    ]
    mean = level_of(np.zeros(len(size)), low, high, size=size, budget=context.budget)
    least = np.array(
        [min(max((mean - RANGE) * n, a), b) for n, a, b in zip(size, low, high, strict=True)]
    )
    most = np.array(
        [min(max((mean + RANGE) * n, a), b) for n, a, b in zip(size, low, high, strict=True)]
    )
    level = level_of(np.array(offsets), least, most, size=size, budget=context.budget)
    ideal = np.clip((np.array(offsets) + level) * size, least, most)
    assert_near(CLOSED_FORM["owl"](context), ideal, context)


def test_a_context_without_inputs_says_what_owl_needs() -> None:
    full = context_of([10, 10], ratio=0.5)
    context = AllocationContext(
        layers=full.layers, budget=10, lower=full.lower, upper=full.upper,
        magnitudes=full.magnitudes, curves=full.curves,
    )  # fmt: skip
    with pytest.raises(UserError, match="`wanda_scores`"):
        CLOSED_FORM["owl"](context)


def test_ratios_of_a_progression_differ_by_equal_steps() -> None:
    sizes = [4000, 1000, 9000, 2000, 3000]
    zeros = progression_at(context_of(sizes, ratio=0.6), 0.3)
    ratios = zeros / np.array(sizes)
    np.testing.assert_allclose(np.diff(ratios), 0.3 / 4, atol=2e-3)
    assert zeros.sum() == round(0.6 * sum(sizes))


@FEW
@given(drawn=contexts(), slope=st.sampled_from(SLOPES))
def test_a_progression_is_its_formula(
    drawn: tuple[AllocationContext, list[float]], slope: float
) -> None:
    context, _ = drawn
    size, low, high = context.weights, context.lower, context.upper
    open_ = [i for i in range(len(size)) if low[i] < high[i]]
    offsets = np.zeros(len(size))
    for place, layer in enumerate(open_):
        offsets[layer] = slope * (place / max(len(open_) - 1, 1) - 0.5) * (len(open_) > 1)
    level = level_of(offsets, low, high, size=size, budget=context.budget)
    ideal = np.clip((offsets + level) * size, low, high)
    assert_near(progression_at(context, slope), ideal, context)


def milder(zeros: IntArray, size: IntArray, power: float) -> IntArray:
    """All densities times one factor, at most 1, so that density^power of all weights is kept."""
    total = int(size.sum())
    wanted = round(total * (1 - int(zeros.sum()) / total) ** power)
    budget = total - wanted
    return project(zeros, budget=budget, lower=0 * size, upper=zeros, weights=size)


@settings(deadline=None, max_examples=12)
@given(drawn=contexts(), power=st.sampled_from([1.0, 0.75]), known=st.booleans())
def test_the_slope_is_the_one_of_least_cost(
    drawn: tuple[AllocationContext, list[float]], power: float, known: bool
) -> None:
    """Own divergences where they are known, output errors elsewhere."""
    curves = drawn[0].curves()[1]
    densities = np.array([0.0, 0.1, 0.4, 0.7])
    own = np.random.default_rng(0).exponential(size=(len(curves), 4))
    measured = (densities, np.sort(own, axis=1)[:, ::-1]) if known else None
    context = dataclasses.replace(drawn[0], score_power=power, own=lambda: measured)
    size = context.weights

    def cost(zeros: IntArray) -> float:
        scored = milder(zeros, size, power)
        if measured is not None:
            curve = OwnCurves(*measured, size)
            return float(curve(np.log(np.maximum(size - scored, 0.5) / size))[0].sum())
        parts = zip(scored, size.tolist(), curves, strict=True)
        return sum(float(error_at(z, weights=n, ratios=RATIOS, errors=c)) for z, n, c in parts)

    costs = [cost(progression_at(context, b)) for b in np.linspace(-0.4, 0.4, 9).round(1)]
    assert cost(CLOSED_FORM["progression"](context)) == pytest.approx(min(costs), rel=1e-9)


def test_layers_that_cost_nothing_are_pruned_more() -> None:
    curves = np.tile(RATIOS, (3, 1))
    for free, first, last in ((2, 0.5, 0.9), (0, 0.9, 0.5)):
        measured = curves * (np.arange(3) != free)[:, None]
        context = context_of([1000, 1000, 1000], ratio=0.7, curves=measured)
        zeros = CLOSED_FORM["progression"](context)
        assert zeros.tolist() == [1000 * first, 700, 1000 * last]


def test_divergences_decide_against_errors_where_they_are_known() -> None:
    """Errors would prune the last layer more, the network's outputs say the first."""
    errors = np.tile(RATIOS, (2, 1)) * [[1.0], [0.0]]
    context = context_of([1000, 1000], ratio=0.7, curves=errors)
    assert CLOSED_FORM["progression"](context).tolist() == [500, 900]
    values = np.array([[1e-5, 1e-6], [1.0, 0.5]])
    told = dataclasses.replace(context, own=lambda: (np.array([0.0, 0.5]), values))
    assert CLOSED_FORM["progression"](told).tolist() == [900, 500]


def test_curves_that_do_not_care_leave_ratios_uniform() -> None:
    context = context_of([1000, 3000], ratio=0.4, curves=np.zeros((2, len(RATIOS))))
    assert CLOSED_FORM["progression"](context).tolist() == [400, 1200]


@NAMES
def test_a_choice_of_n_in_nm_gets_the_wanted_zeros(name: str) -> None:
    """As with `erk`, the pattern's units are the allocator's business."""
    context = context_of([800, 1600, 400], ratio=0.5, bounds=[(0, 0.875)] * 3, outliers=[9, 0, 0])
    choices = tuple(np.arange(0, 8) * n // 8 for n in (800, 1600, 400))
    zeros = CLOSED_FORM[name](dataclasses.replace(context, choices=choices))
    assert zeros.tolist() == CLOSED_FORM[name](context).tolist()
    assert zeros.sum() == context.budget
