"""Allocations without rollouts, each against its definition written down a second time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.curves import error_at
from envs.problem import FloatArray, IntArray, LayerRow
from ws_learner.search.closed_form import CLOSED_FORM
from ws_learner.search.context import AllocationContext
from ws_learner.search.global_threshold import lamp_scores
from ws_learner.search.knapsack import frontier

FEW = settings(deadline=None, max_examples=40)
RATIOS = np.array([0.0, 0.5, 0.8, 0.9, 0.95])


def context_of(
    weights: Sequence[FloatArray],
    *,
    budget: int,
    lower: IntArray | None = None,
    upper: IntArray | None = None,
    curves: FloatArray | None = None,
) -> AllocationContext:
    sizes = np.array([w.size for w in weights])
    layers = tuple(
        LayerRow(
            name=f"{i}.weight", kind="linear", role="ff", shape=w.shape, weights=w.size, macs=w.size
        )
        for i, w in enumerate(weights)
    )
    measured = np.tile(RATIOS**2, (len(layers), 1)) if curves is None else curves
    return AllocationContext(
        layers=layers,
        budget=budget,
        lower=np.zeros_like(sizes) if lower is None else lower,
        upper=sizes if upper is None else upper,
        magnitudes=lambda: [np.abs(w).ravel() for w in weights],
        curves=lambda: (RATIOS, measured),
        own=lambda: (
            np.array([0.0, *(1 - RATIOS[RATIOS > 0])[::-1]]),
            np.hstack([np.full((len(layers), 1), 2.0), measured[:, RATIOS > 0][:, ::-1]]),
        ),
        wanda_scores=lambda: [np.abs(w).ravel() for w in weights],
    )


def random_weights(sizes: Sequence[int], seed: int) -> list[FloatArray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, rng.uniform(0.5, 2), (size, 1)) for size in sizes]


@st.composite
def contexts(draw: st.DrawFn) -> AllocationContext:
    sizes = draw(st.lists(st.integers(1, 300), min_size=1, max_size=6))
    seed = draw(st.integers(0, 100))
    lower = np.array([draw(st.integers(0, size)) for size in sizes])
    upper = np.array([draw(st.integers(int(a), b)) for a, b in zip(lower, sizes, strict=True)])
    budget = draw(st.integers(int(lower.sum()), int(upper.sum())))
    weights = random_weights(sizes, seed)
    if draw(st.booleans()):  # ties, within layers and between them, and weights that are zero
        weights = [np.round(w) for w in weights]
    curves = np.sort(np.random.default_rng(seed).random((len(sizes), len(RATIOS))), axis=1)
    return context_of(weights, budget=budget, lower=lower, upper=upper, curves=curves)


@pytest.mark.parametrize("name", CLOSED_FORM)
@FEW
@given(context=contexts())
def test_the_budget_is_exact_and_bounds_hold(name: str, context: AllocationContext) -> None:
    zeros = CLOSED_FORM[name](context)
    assert zeros.dtype == np.int64
    assert zeros.sum() == context.budget
    assert np.all((context.lower <= zeros) & (zeros <= context.upper))


def test_erk_is_the_sum_of_dimensions_over_their_product() -> None:
    weights = [np.zeros(shape) for shape in [(64, 32, 3, 3), (64, 64, 3, 3), (10, 64)]]
    kept = 2000
    zeros = CLOSED_FORM["erk"](context_of(weights, budget=sum(w.size for w in weights) - kept))
    raw = np.array([sum(w.shape) / w.size for w in weights])
    scale = kept / sum(r * w.size for r, w in zip(raw, weights, strict=True))
    densities = 1 - zeros / [w.size for w in weights]
    np.testing.assert_allclose(densities, scale * raw, atol=1 / 640)


def test_erk_keeps_whole_layers_that_would_be_more_than_dense() -> None:
    """The published loop: set layers above density 1 dense, share the rest, until none is."""
    shapes = [(16, 3, 3, 3), (16, 16, 3, 3), (64, 64, 3, 3), (10, 64)]
    weights = [np.zeros(shape) for shape in shapes]
    sizes = np.array([w.size for w in weights])
    kept = 9000
    raw = np.array([sum(shape) for shape in shapes]) / sizes
    dense = np.zeros(len(shapes), bool)
    while True:
        scale = (kept - sizes[dense].sum()) / (raw * sizes)[~dense].sum()
        if not (over := ~dense & (scale * raw > 1)).any():
            break
        dense |= over
    assert dense.tolist() == [True, False, False, True]
    zeros = CLOSED_FORM["erk"](context_of(weights, budget=int(sizes.sum()) - kept))
    expected = np.where(dense, 0, sizes * (1 - scale * raw))
    np.testing.assert_allclose(zeros, expected, atol=1)


@FEW
@given(st.integers(0, 1000), st.floats(0, 1))
def test_global_prunes_the_smallest_weights_of_all(seed: int, share: float) -> None:
    weights = random_weights([40, 7, 90], seed)
    budget = round(share * 137)
    zeros = CLOSED_FORM["global"](context_of(weights, budget=budget))
    layer = np.repeat([0, 1, 2], [40, 7, 90])
    order = np.argsort(np.abs(np.concatenate([w.ravel() for w in weights])))
    assert zeros.tolist() == np.bincount(layer[order[:budget]], minlength=3).tolist()


@FEW
@given(st.integers(0, 1000), st.floats(0, 1))
def test_lamp_prunes_the_smallest_scores_of_all(seed: int, share: float) -> None:
    weights = random_weights([12, 5, 30], seed)
    scores = []
    for layer, weight in enumerate(weights):
        squares = weight.ravel() ** 2
        scores += [(s / squares[squares >= s].sum(), layer) for s in squares]
    budget = round(share * 44)  # never all but the largest of each layer: those tie at 1
    zeros = CLOSED_FORM["lamp"](context_of(weights, budget=budget))
    chosen = [layer for _, layer in sorted(scores)[:budget]]
    assert zeros.tolist() == np.bincount(chosen, minlength=3).tolist()


def test_lamp_empties_no_layer_before_all_are_down_to_one_weight() -> None:
    weights = random_weights([50, 3, 200], 0)
    weights[1] *= 1e-6
    zeros = CLOSED_FORM["lamp"](context_of(weights, budget=250))
    assert zeros.tolist() == [49, 2, 199]


def test_lamp_scores_of_an_all_zero_layer_are_zero() -> None:
    assert lamp_scores(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_a_tie_at_the_threshold_is_dealt_in_forward_order() -> None:
    weights = [np.ones((4, 1)), np.ones((4, 1)), np.full((4, 1), 0.5)]
    assert CLOSED_FORM["global"](context_of(weights, budget=9)).tolist() == [4, 1, 4]


def total_error(zeros: Sequence[int], curves: FloatArray, sizes: IntArray) -> float:
    parts = zip(zeros, curves, sizes.tolist(), strict=True)
    return sum(
        float(error_at(np.array(z), weights=n, ratios=RATIOS, errors=curve))
        for z, curve, n in parts
    )


@FEW
@given(st.data())
def test_knapsack_finds_what_brute_force_finds(data: st.DataObject) -> None:
    sizes = np.array(data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    lower = np.array([data.draw(st.integers(0, int(n))) for n in sizes])
    upper = np.array(
        [data.draw(st.integers(int(a), int(b))) for a, b in zip(lower, sizes, strict=True)]
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    curves = np.sort(rng.random((len(sizes), len(RATIOS))) ** 3, axis=1)  # not convex
    curves[:, 0] = 0
    table = frontier(
        RATIOS, curves, weights=sizes, lower=lower, upper=upper, budget=int(lower.sum())
    )
    every = list(itertools.product(*(range(a, b + 1) for a, b in zip(lower, upper, strict=True))))
    for budget in range(int(lower.sum()), int(upper.sum()) + 1):
        best = min(total_error(z, curves, sizes) for z in every if sum(z) == budget)
        found = table.zeros(budget)
        assert found.sum() == budget
        assert total_error(found.tolist(), curves, sizes) == pytest.approx(best, abs=1e-9)
        assert table.errors[upper.sum() - budget] == pytest.approx(best, abs=1e-9)


def test_knapsack_with_coarse_cells_stays_within_the_stated_loss() -> None:
    rng = np.random.default_rng(3)
    sizes = np.array([500, 3000, 9000, 20000])
    curves = np.sort(rng.random((4, len(RATIOS))) ** 2, axis=1)
    curves[:, 0] = 0
    zero = np.zeros(4, np.int64)
    wide = {"weights": sizes, "lower": zero, "upper": sizes}
    budget = 29000
    fine = frontier(RATIOS, curves, **wide, budget=budget, cells=4000, levels=5000)  # type: ignore[arg-type]
    coarse = frontier(RATIOS, curves, **wide, budget=budget, cells=200, levels=20)  # type: ignore[arg-type]
    best, found = fine.zeros(budget), coarse.zeros(budget)
    # What the best profile would lose if each layer fell to the next level, a unit below that.
    kept = (sizes - best) / (sizes / coarse.unit) ** (1 / 19) - 2 * coarse.unit
    fallen = np.minimum(sizes, np.ceil(sizes - kept)).astype(int)
    error = total_error(found.tolist(), curves, sizes)
    assert total_error(best.tolist(), curves, sizes) <= error + 1e-3
    assert error <= total_error(fallen.tolist(), curves, sizes)


def test_one_table_serves_every_target() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([400, 2000, 5000])
    curves = np.sort(rng.random((3, len(RATIOS))), axis=1)
    zero = np.zeros(3, np.int64)
    table = frontier(RATIOS, curves, weights=sizes, lower=zero, upper=sizes, budget=3700)
    errors = [total_error(table.zeros(b).tolist(), curves, sizes) for b in range(3700, 7400, 370)]
    assert errors == sorted(errors)
    with pytest.raises(ValueError, match="3699 zeros"):
        table.zeros(3699)


def test_interpolation_is_linear_in_log_density_and_never_falls() -> None:
    ratios, errors = np.array([0.5, 0.75, 0.9]), np.array([0.2, 0.4, 0.3])
    zeros = np.array([0, 500, 1000 - round(np.sqrt(500 * 250)), 750, 900, 1000])
    got = error_at(zeros, weights=1000, ratios=ratios, errors=errors)
    assert got.tolist() == pytest.approx([0.0, 0.2, 0.3, 0.4, 0.4, 1.0], abs=1e-3)


def test_only_protocols_that_need_the_network_look_at_it() -> None:
    def forbidden() -> None:
        raise AssertionError("looked at the network")

    context = context_of(random_weights([30, 40], 0), budget=35)
    object.__setattr__(context, "curves", forbidden)
    for name in ("global", "lamp"):
        assert CLOSED_FORM[name](context).sum() == 35
    object.__setattr__(context, "magnitudes", forbidden)
    for name in ("uniform", "heurist", "erk"):
        assert CLOSED_FORM[name](context).sum() == 35
